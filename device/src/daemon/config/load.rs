//! Loads the configuration from a file and the environment, and reports all mistakes at once.
//!
//! Each key is read separately, so that one wrong value hides no other.

use std::fmt;

use confique::meta::{Field, FieldKind, LeafKind, Meta};
use confique::{Config, Layer};
use thiserror::Error;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::DaemonConfig;

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line of the file, variable or key.
    pub place: String,
    /// Description of the mistake, with the expected value.
    pub what: String,
}

/// Error with all mistakes of a configuration.
#[derive(Debug, Error)]
#[error("{source_name}: {} mistake{}{}", .mistakes.len(), if .mistakes.len() == 1 { "" } else { "s" }, lines(.mistakes))]
pub struct ConfigError {
    /// Name of the file.
    pub source_name: String,
    /// All mistakes, in the order of the file, then of the environment.
    pub mistakes: Vec<Mistake>,
}

impl ConfigError {
    /// Creates the error of a single mistake.
    pub(crate) fn one(source_name: &str, mistake: Mistake) -> Self {
        Self { source_name: source_name.to_owned(), mistakes: vec![mistake] }
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    let text: Vec<String> = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect();
    text.concat()
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

type Keys = <DaemonConfig as Config>::Layer;

/// State of reading a configuration.
struct Reading<'a> {
    text: &'a str,
    keys: Keys,
    /// Keys with a value, valid or not.
    given: Vec<String>,
    mistakes: Vec<Mistake>,
    /// Keys with a missing or unusable value.
    wrong: Vec<String>,
}

/// Result of reading a file and the environment.
#[derive(Debug)]
pub(crate) struct Read {
    /// Configuration, with the default of each wrong key; `None` for a file that is no TOML.
    pub(crate) config: Option<DaemonConfig>,
    pub(crate) mistakes: Vec<Mistake>,
    /// Keys with a missing or unusable value.
    pub(crate) wrong: Vec<String>,
}

impl Read {
    /// Adds the mistakes that single values do not show, and the unknown variables among `names`
    /// with the prefix of a table.
    pub(crate) fn checked(mut self, names: impl Iterator<Item = String>) -> Self {
        self.mistakes.extend(unknown_variables(names));
        for mistake in self.config.iter().flat_map(super::check) {
            // A value that cannot be read has its default here, and was reported already.
            if !self.wrong.contains(&mistake.place) {
                self.wrong.push(mistake.place.clone());
                self.mistakes.push(mistake);
            }
        }
        self
    }
}

/// Stands in for a missing or wrong source.
const NO_SOURCE: &str = "synthetic://";

/// Loads the text of a file and the variables that `variable` returns, which take precedence. An
/// empty variable counts as not set.
///
/// # Errors
///
/// [`ConfigError`] with all mistakes.
pub(crate) fn load(
    source_name: &str,
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<DaemonConfig, ConfigError> {
    match read(text, variable) {
        Read { config: Some(config), mistakes, .. } if mistakes.is_empty() => Ok(config),
        Read { mistakes, .. } => Err(ConfigError { source_name: source_name.to_owned(), mistakes }),
    }
}

/// Like [`load`], but returns the readable values in spite of mistakes.
pub(crate) fn read(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Read {
    let mut reading = Reading {
        text,
        keys: Keys::empty(),
        given: Vec::new(),
        mistakes: Vec::new(),
        wrong: Vec::new(),
    };
    let table = DeTable::parse(text);
    match &table {
        Ok(table) => reading.table(&DaemonConfig::META, table.get_ref(), &[]),
        Err(error) => {
            let place = reading.line(error.span().unwrap_or_default().start);
            reading.mistakes.push(Mistake { place, what: error.message().to_owned() });
        }
    }
    each_key(&DaemonConfig::META, &mut Vec::new(), &mut |path, field| {
        reading.variable(path, field, variable);
    });
    if table.is_ok() {
        each_key(&DaemonConfig::META, &mut Vec::new(), &mut |path, field| {
            reading.missing(path, field);
        });
    }
    let Reading { keys, mistakes, wrong, .. } = reading;
    let source = Value::String(NO_SOURCE.to_owned());
    let stand_in = keys_of(&["camera", "source"], source).unwrap_or_else(|_| Keys::empty());
    let keys = keys.with_fallback(Keys::default_values()).with_fallback(stand_in);
    let config = DaemonConfig::from_layer(keys).ok().filter(|_| table.is_ok());
    Read { config, mistakes, wrong }
}

/// Returns the unknown variables with the prefix of a table (`FMLORA_CAMERA_`).
fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<Mistake> {
    let mut known: Vec<&str> = Vec::new();
    each_key(&DaemonConfig::META, &mut Vec::new(), &mut |_, field| {
        if let FieldKind::Leaf { env: Some(name), .. } = field.kind {
            known.push(name);
        }
    });
    let is_of_table = |name: &str| {
        let tables = DaemonConfig::META.fields.iter();
        let mut tables = tables.filter(|field| matches!(field.kind, FieldKind::Nested { .. }));
        tables.any(|table| name.starts_with(&format!("FMLORA_{}_", table.name.to_uppercase())))
    };
    let unknown = names.filter(|name| is_of_table(name) && !known.contains(&name.as_str()));
    let mistake = |place: String| {
        let distance = |known: &&&str| strsim::damerau_levenshtein(known, &place);
        let what = match known.iter().min_by_key(distance) {
            Some(meant) => format!("unknown variable, did you mean {meant}?"),
            None => "unknown variable".to_owned(),
        };
        Mistake { place, what }
    };
    unknown.map(mistake).collect()
}

/// Visits every key with its path.
pub(super) fn each_key(
    meta: &'static Meta,
    path: &mut Vec<&'static str>,
    visit: &mut dyn FnMut(&[&'static str], &Field),
) {
    for field in meta.fields {
        path.push(field.name);
        match field.kind {
            FieldKind::Nested { meta } => each_key(meta, path, visit),
            FieldKind::Leaf { .. } => visit(path, field),
        }
        path.pop();
    }
}

impl Reading<'_> {
    fn line(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or(self.text);
        format!("line {}", before.matches('\n').count() + 1)
    }

    /// Reads the keys of a table of the file.
    fn table(&mut self, meta: &'static Meta, table: &DeTable<'_>, path: &[&'static str]) {
        for (key, value) in table {
            let place = self.line(key.span().start);
            let name: &str = key.get_ref();
            let Some(field) = meta.fields.iter().find(|field| field.name == name) else {
                let what = unknown(&shown(path, name), name, meta);
                self.mistakes.push(Mistake { place, what });
                continue;
            };
            let path = [path, &[field.name]].concat();
            match (&field.kind, value.get_ref()) {
                (FieldKind::Nested { meta }, DeValue::Table(table)) => {
                    self.table(meta, table, &path);
                }
                (FieldKind::Nested { .. }, other) => {
                    let kind = other.type_str();
                    let key = path.join(".");
                    let what = format!("`{key}` is a {kind}, expected a table: [{key}]");
                    self.wrong.push(key);
                    self.mistakes.push(Mistake { place, what });
                }
                (FieldKind::Leaf { .. }, _) => {
                    self.given.push(path.join("."));
                    // The value alone, as it is written in the text.
                    let written = self.text.get(value.span()).unwrap_or_default();
                    let read = parsed(written).map_or_else(Err, |value| keys_of(&path, value));
                    self.take(read, place, &path);
                }
            }
        }
    }

    /// Reads the variable of a key.
    fn variable(
        &mut self,
        path: &[&'static str],
        field: &Field,
        variable: &dyn Fn(&str) -> Option<String>,
    ) {
        let FieldKind::Leaf { env: Some(name), .. } = field.kind else { return };
        let Some(text) = variable(name).filter(|text| !text.is_empty()) else { return };
        self.given.push(path.join("."));
        // Read as a number, a list and so on if the key expects one, else as plain text.
        let typed = parsed(&text).map_or_else(Err, |value| keys_of(path, value));
        let read = typed.or_else(|why| {
            keys_of(path, Value::String(text.clone()))
                .map_err(|plain| if parsed(&text).is_ok() { why } else { plain })
        });
        self.take(read, name.to_owned(), path);
    }

    fn take(&mut self, read: Result<Keys, String>, place: String, path: &[&'static str]) {
        match read {
            Ok(keys) => {
                let before = std::mem::replace(&mut self.keys, Keys::empty());
                self.keys = keys.with_fallback(before);
            }
            Err(why) => {
                let key = path.join(".");
                let what = format!("`{key}`: {why}");
                self.wrong.push(key);
                self.mistakes.push(Mistake { place, what });
            }
        }
    }

    fn missing(&mut self, path: &[&'static str], field: &Field) {
        let required = LeafKind::Required { default: None };
        let needed = matches!(field.kind, FieldKind::Leaf { kind, .. } if kind == required);
        let key = path.join(".");
        if needed && !self.given.contains(&key) {
            let doc: String = field.doc.concat();
            let what = format!("missing, expected:{doc}");
            self.wrong.push(key.clone());
            self.mistakes.push(Mistake { place: key, what });
        }
    }
}

/// Parses a value in TOML syntax.
fn parsed(written: &str) -> Result<Value, String> {
    let mut table: Table = toml::from_str(&format!("value = {written}"))
        .map_err(|error: toml::de::Error| error.message().to_owned())?;
    table.remove("value").ok_or_else(|| "no value".to_owned())
}

/// Creates a configuration with one key.
fn keys_of(path: &[&'static str], value: Value) -> Result<Keys, String> {
    let nested = path
        .iter()
        .rev()
        .fold(value, |value, name| Value::Table(Table::from_iter([((*name).to_owned(), value)])));
    nested.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

fn shown(path: &[&'static str], name: &str) -> String {
    [path, &[name]].concat().join(".")
}

/// Message for an unknown key, with the most similar known key.
fn unknown(key: &str, name: &str, meta: &Meta) -> String {
    let near = |field: &Field| (strsim::damerau_levenshtein(field.name, name), field.name);
    let nearest = meta.fields.iter().map(near).min();
    match nearest {
        Some((distance, meant)) if distance <= meant.len().max(3) / 3 => {
            format!("unknown key `{key}`, did you mean `{meant}`?")
        }
        _ => {
            let known: Vec<&str> = meta.fields.iter().map(|field| field.name).collect();
            format!("unknown key `{key}`, expected one of: {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[camera]\nsource = \"synthetic://\"\n[mqtt]\ntopic = \"boxes\"\n[http]\nmax_body_mib = 7\n";

    #[test]
    fn a_variable_that_begins_like_some_and_is_none_is_told() {
        let names = ["FMLORA_CAMERA_SORCE", "FMLORA_CAMERA_SOURCE", "FMLORA_DATA", "PATH"];
        let read = read(FILE, &|_| None).checked(names.into_iter().map(str::to_owned));
        let what = "unknown variable, did you mean FMLORA_CAMERA_SOURCE?".to_owned();
        assert_eq!(read.mistakes, [Mistake { place: names[0].to_owned(), what }]);
    }

    #[test]
    fn an_empty_variable_is_not_set_whatever_the_key_holds() {
        let variables = [
            "FMLORA_MQTT_TOPIC",
            "FMLORA_HTTP_MAX_BODY_MIB",
            "FMLORA_CAMERA_COMMAND",
            "FMLORA_BASE",
        ];
        let empty = |name: &str| variables.contains(&name).then(String::new);
        let with = load("test", FILE, &empty).expect("a configuration");
        assert_eq!(with, load("test", FILE, &|_| None).expect("a configuration"));
        assert_eq!((with.mqtt.topic.as_str(), with.http.max_body_mib), ("boxes", 7));
        // A text is emptied by the file, or by quotation marks.
        let quoted = |name: &str| (name == "FMLORA_MQTT_DISCOVERY").then(|| "\"\"".to_owned());
        assert_eq!(load("test", FILE, &quoted).expect("a configuration").mqtt.discovery, "");
    }

    #[test]
    fn valid_keys_are_read_in_spite_of_wrong_ones() {
        let text = "devise = 1\n[http]\nlisten = \"here\"\nmax_body_mib = 7\n[mqtt]\nbroker = \"mqtt://box\"\n";
        let Read { config, mistakes, wrong } = read(text, &|_| None);
        let config = config.expect("a configuration");
        assert_eq!(
            (config.http.max_body_mib, config.mqtt.broker.as_deref()),
            (7, Some("mqtt://box"))
        );
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        assert_eq!(wrong, ["http.listen", "camera.source"]);
    }
}
