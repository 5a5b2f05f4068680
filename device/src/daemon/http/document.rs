//! The `OpenAPI` document: adds logins, errors and media types, which all routes share, to the
//! descriptions of the handlers.

use fmlora_learner::MAX_NAME_CHARS;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    Components, Content, ObjectBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder, Schema,
    Type,
};
use utoipa::{Modify, OpenApi as _, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::{Api, error};

/// Media type of error responses.
const PROBLEM: &str = "application/problem+json";

/// Role that a group of routes needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// No login.
    Open,
    /// Any role; clients of cameras have further ways to log in.
    Pictures,
    Viewer,
    Admin,
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "fmlora-edge",
        description = "Teaches a camera box new things from a few pictures. Log in with a cookie (`/api/v1/login`) or \
                       send `Authorization: Bearer TOKEN`. What fails is told as application/problem+json (RFC 9457)."
    ),
    tags(
        (name = "access", description = "Logins, passwords, tokens"),
        (name = "classes", description = "Teach, forget, rename, take back"),
        (name = "pictures", description = "Ask what a picture shows"),
        (name = "streams", description = "The camera's picture, and what happens"),
        (name = "system", description = "How the box is"),
        (name = "update", description = "Adapters over the air"),
    ),
    components(schemas(error::Problem, crate::daemon::event::Event)),
    modifiers(&Schemes)
)]
struct Document;

/// Returns the document without routes.
pub(super) fn document() -> OpenApi {
    Document::openapi()
}

/// Adds the security schemes.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_with(Components::new);
        let http = |scheme, description: &str| {
            SecurityScheme::Http(
                HttpBuilder::new().scheme(scheme).description(Some(description)).build(),
            )
        };
        components.add_security_scheme(
            "token",
            http(HttpAuthScheme::Bearer, "A token of `/api/v1/tokens` or of the configuration."),
        );
        components.add_security_scheme(
            "basic",
            http(
                HttpAuthScheme::Basic,
                "A user and its password, or any user and a token as password.",
            ),
        );
        let query = ApiKeyValue::with_description(
            "token",
            "A token of the role `pictures`: addresses are written into logs.",
        );
        let query = SecurityScheme::ApiKey(ApiKey::Query(query));
        components.add_security_scheme("picture_token", query);
    }
}

/// The name of a class, as `fmlora_learner::ClassName` takes it.
pub(super) struct NameOfClass;

/// Pattern of class names: no path separators, control characters or characters that change the
/// text direction; not only spaces or dots.
const NAME: &str = r"^(?=[\s\S]*\S)(?!\s*\.+\s*$)[^/\\\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]*$";

impl NameOfClass {
    fn object() -> ObjectBuilder {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "Name of a class; those that differ by upper and lower case alone are one.",
            ))
            .min_length(Some(1))
            .max_length(Some(MAX_NAME_CHARS))
            .pattern(Some(NAME))
    }
}

impl PartialSchema for NameOfClass {
    fn schema() -> RefOr<Schema> {
        RefOr::T(Schema::Object(Self::object().build()))
    }
}

impl ToSchema for NameOfClass {}

/// A form of pictures: one part or more for each class, named by it. The document shows a part as one file: generators of clients
/// stumble over lists of files under names that they do not know.
pub(super) struct TaskForm;

impl PartialSchema for TaskForm {
    fn schema() -> RefOr<Schema> {
        let form = ObjectBuilder::new()
            .description(Some(
                "Pictures by the name of the class that they show; a name may stand before several.",
            ))
            .property_names(Some(Schema::Object(NameOfClass::object().build())))
            .additional_properties(Some(Ref::from_schema_name("PictureFile")))
            .min_properties(Some(1));
        RefOr::T(Schema::Object(form.build()))
    }
}

impl ToSchema for TaskForm {}

/// Adds the security requirements and the error responses to the document of a group of routes.
pub(super) fn completed(mut routes: OpenApiRouter<Api>, door: Door) -> OpenApiRouter<Api> {
    for item in routes.get_openapi_mut().paths.paths.values_mut() {
        for operation in operations(item) {
            complete(operation, door);
        }
    }
    routes
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, .. } = item;
    [get, put, post, delete].into_iter().flatten()
}

fn complete(operation: &mut Operation, door: Door) {
    let security = |name: &str, role: &str| SecurityRequirement::new(name, [role]);
    operation.security = match door {
        Door::Open => Some(Vec::new()),
        Door::Pictures => Some(
            ["token", "basic", "picture_token"].map(|name| security(name, "pictures")).to_vec(),
        ),
        Door::Viewer => Some(vec![security("token", "viewer")]),
        Door::Admin => Some(vec![security("token", "admin")]),
    };
    let has_body = operation.request_body.is_some();
    let has_address = operation.parameters.as_ref().is_some_and(|all| !all.is_empty());
    let mut errors: Vec<u16> = vec![408, 421, 429, 500, 503];
    if has_body || has_address {
        errors.push(400);
    }
    if has_body {
        errors.extend([413, 415, 422]);
    }
    if door != Door::Open {
        errors.extend([401, 403]);
    }
    if door == Door::Admin {
        errors.push(507);
    }
    for status in errors {
        operation.responses.responses.entry(status.to_string()).or_insert_with(problem);
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response {
            describe(status, response);
        }
    }
}

fn problem() -> RefOr<Response> {
    RefOr::T(ResponseBuilder::new().content(PROBLEM, of_problem()).build())
}

fn of_problem() -> Content {
    Content::new(Some(Ref::from_schema_name("Problem")))
}

/// Adds the description of a status if the handler has none, and sets the media type of errors.
fn describe(status: &str, response: &mut Response) {
    if response.description.is_empty() {
        meaning(status).clone_into(&mut response.description);
    }
    let is_problem = response.content.get("application/json").is_some_and(
        |content| matches!(content, RefOr::T(content) if content.schema == of_problem().schema),
    );
    if is_problem {
        response.content.shift_remove("application/json");
        response.content.insert(PROBLEM.to_owned(), RefOr::T(of_problem()));
    }
}

fn meaning(status: &str) -> &'static str {
    match status {
        "200" => "The answer.",
        "201" => "It was made.",
        "204" => "It was done.",
        "400" => "The request cannot be read: its address, its query or its body.",
        "401" => "There is no login, or it has ended.",
        "403" => "The login does not allow this.",
        "404" => "There is none.",
        "408" => "The request did not come whole in time.",
        "409" => "It contradicts the state of the box.",
        "413" => "The body is too large.",
        "415" => "The body is of another kind than expected.",
        "421" => "No login is asked for, and the box is called by a name that is not its own.",
        "422" => "The body or a name can be read, but not used.",
        "429" => "Too many requests of this address; `Retry-After` says when to come again.",
        "500" => "A fault of the box.",
        "503" => "Too much at once, or the daemon ends.",
        "507" => "The state cannot be written.",
        _ => "It failed.",
    }
}
