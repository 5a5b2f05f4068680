//! The `OpenAPI` document follows its rules, and errors match it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::served::{Daemon, OPEN};
use crate::setting::Setting;

const PROBLEM: &str = "application/problem+json";

/// Routes that answer without a login.
const OPEN_ROUTES: [&str; 4] = ["/healthz", "/readyz", "/api/v1/login", "/api/v1/logout"];

/// Returns all violations of the rules by an operation.
fn mistakes(document: &Value, path: &str, operation: &Value) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut expect = |is_so: bool, what: &str| {
        if !is_so {
            mistakes.push(what.to_owned());
        }
    };
    expect(operation["operationId"].is_string(), "no operationId");
    expect(operation["summary"].is_string(), "no summary");
    let responses = operation["responses"].as_object().expect("responses");
    for (status, response) in responses {
        let text = response["description"].as_str().unwrap_or_default();
        expect(!text.is_empty(), &format!("{status}: no description"));
        let is_error = status.starts_with('4') || status.starts_with('5');
        if is_error && (path, status.as_str()) != ("/readyz", "503") {
            let kinds: Vec<&String> =
                response["content"].as_object().into_iter().flat_map(|all| all.keys()).collect();
            expect(kinds == [PROBLEM], &format!("{status}: {kinds:?} instead of {PROBLEM}"));
        }
    }
    let mut needed = vec!["408", "421", "429", "500", "503"];
    let security = operation["security"].as_array();
    if OPEN_ROUTES.contains(&path) {
        expect(security.is_some_and(Vec::is_empty), "it needs no login, and does not say so");
    } else {
        expect(security.is_some_and(|all| !all.is_empty()), "no security");
        needed.extend(["401", "403"]);
    }
    let schemes = &document["components"]["securitySchemes"];
    for name in
        security.into_iter().flatten().flat_map(|one| one.as_object().expect("a map").keys())
    {
        expect(schemes[name].is_object(), &format!("unknown security scheme {name}"));
    }
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    for part in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        let found = parameters.iter().any(|p| p["name"] == part && p["in"] == "path");
        expect(found, &format!("the part {part} of the path is no parameter"));
    }
    for parameter in parameters.iter().filter(|parameter| parameter["in"] == "path") {
        let name = parameter["name"].as_str().expect("a name");
        expect(path.contains(&format!("{{{name}}}")), &format!("{name} is not in the path"));
    }
    if !parameters.is_empty() {
        needed.push("400");
    }
    if operation["requestBody"].is_object() {
        needed.extend(["400", "413", "415", "422"]);
    }
    for status in needed {
        expect(responses.contains_key(status), &format!("{status} is not declared"));
    }
    mistakes
}

#[test]
fn every_operation_holds_to_the_rules() {
    let setting = Setting::new();
    let mut daemon = Daemon::start(&setting, OPEN);
    let (_, document) = daemon.get("/openapi.json");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")));
    let mut ids = BTreeSet::new();
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let found = mistakes(&document, path, operation);
            all.extend(found.into_iter().map(|what| format!("{method} {path}: {what}")));
            let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
            if !ids.insert(id.clone()) {
                all.push(format!("{method} {path}: operationId {id} twice"));
            }
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
    assert!(ids.len() >= 20, "{ids:?}");
    // All schemas that are referenced are defined.
    let text = document.to_string();
    for name in text.split("\"#/components/schemas/").skip(1) {
        let name = name.split('"').next().expect("a name");
        assert!(document["components"]["schemas"][name].is_object(), "{name} is not defined");
    }
}

#[test]
fn errors_of_addresses_are_problem_documents_too() {
    let setting = Setting::new();
    let daemon = Daemon::start(&setting, OPEN);
    for (method, path, status) in [
        ("DELETE", "/api/v1/tokens/first", 400),
        ("DELETE", "/api/v1/tokens/99999999999", 400),
        ("POST", "/api/v1/classify?top=many", 400),
        ("POST", "/api/v1/classify?top=0", 400),
        ("POST", "/api/v1/classify?tpo=3", 400),
        ("DELETE", "/api/v1/classes/%ff", 400),
        ("GET", "/api/v1/nothing", 404),
        ("PATCH", "/api/v1/classes", 405),
        ("TRACE", "/metrics", 405),
    ] {
        let answer = daemon.ask(method, path, &["Host: localhost"], "");
        let body = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{method} {path}: {body}");
        assert_eq!(answer.header("content-type"), Some(PROBLEM), "{method} {path}");
        let problem = answer.json();
        assert_eq!(problem["status"], status, "{method} {path}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|why| !why.is_empty()), "{problem}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{method} {path}");
    }
}
