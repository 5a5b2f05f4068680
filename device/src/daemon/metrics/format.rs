//! Text format of the metrics, by a scraper's `Accept`.

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' text format, version 0.0.4.
    Prometheus,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Format {
    /// Returns the format that `Accept` prefers, Prometheus' by default.
    pub(crate) fn accepted(accept: &str) -> Self {
        let mut open = 0.0_f32;
        let mut plain = 0.0_f32;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let mut quality = 1.0;
            let mut version = None;
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match (name.trim(), value.trim().trim_matches('"')) {
                    ("q", value) => quality = value.parse().unwrap_or(0.0),
                    ("version", value) => version = Some(value),
                    _ => {}
                }
            }
            if kind.eq_ignore_ascii_case("application/openmetrics-text")
                && version.is_none_or(|version| version == "1.0.0")
            {
                open = open.max(quality);
            } else if kind.eq_ignore_ascii_case("text/plain") {
                plain = plain.max(quality);
            }
        }
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Value of `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_client::encoding::prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_preferred() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Prometheus),
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text; version=\"1.0.0\", text/plain", Format::OpenMetrics),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.5", Format::Prometheus),
            ("application/openmetrics-text; version=0.0.1", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
