//! `[Metrics]` of supd.toml: the one table that is of supd, and of no unit.

use super::Source;
use super::document;
use super::layer::{Kind, Layer, Rows};
use super::report::{Reading, Report, bad};
use super::section::Section;
use super::values::{absolute_path, path, span, text};
use crate::codec::fault::{Fault, quoted};
use crate::model::metrics::{MetricsPlace, MetricsSettings};
use std::net::SocketAddr;
use std::time::Duration;

/// The keys of `[Metrics]`, in the order of the manual.
pub const METRICS: &[&str] = &["Listen", "File", "IntervalSec"];

/// sun_path has room for so many bytes.
const PATH_MAX: usize = 107;

/// What supd itself reads in its supd.toml.
///
/// # Errors
/// What is wrong there; faults of other tables are told by [`super::parse_for`], for each unit.
pub fn metrics_of(source: &Source) -> Result<MetricsSettings, Vec<Fault>> {
    let mut ignored = Report::new(std::iter::once(source));
    let document = document::read(0, &mut ignored);
    if ignored.has_faults() {
        return Err(ignored.finish().0);
    }
    let mut own = document;
    own.entries.retain(|name, _| name == "Metrics");
    let mut report = Report::new(std::iter::once(source));
    let layer = Layer::new(own, Kind::Defaults, "supd", &mut report);
    let settings = read(&layer.metrics, &mut report);
    if report.has_faults() { Err(report.finish().0) } else { Ok(settings) }
}

pub(super) fn read(rows: &Rows, report: &mut Report<'_>) -> MetricsSettings {
    let mut section = Section::new(rows, report);
    let mut settings = MetricsSettings::default();
    section.set_some(&mut settings.listen, "Listen", |node| place(&text(node)?));
    section.set_some(&mut settings.file, "File", |node| {
        let file = path(node)?;
        match file.file_name().and_then(|name| name.to_str()) {
            Some(name) if name.ends_with(".prom") => Ok(file),
            _ => bad("node_exporter reads no file of this name", "let it end in .prom"),
        }
    });
    section.set(&mut settings.interval, "IntervalSec", |node| match span(node)? {
        span if (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&span) => Ok(span),
        _ => bad("it is out of range", "write a time from \"1s\" to \"1h\""),
    });
    settings
}

fn place(text: &str) -> Reading<MetricsPlace> {
    if text.starts_with('/') {
        let path = absolute_path(text).map_err(|bad| vec![bad])?;
        if text.len() > PATH_MAX {
            return bad(format!("a socket's path has at most {PATH_MAX} bytes"), "take a shorter one");
        }
        return Ok(MetricsPlace::Path(path));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => bad("port 0 is none", "write the port that is asked"),
        Ok(address) if address.ip().is_loopback() => Ok(MetricsPlace::Tcp(address)),
        Ok(address) => bad(
            format!(
                "{} can be reached from other machines, and whoever asks is told without a password",
                address.ip()
            ),
            format!(
                "write 127.0.0.1:{0} or [::1]:{0}, and let a proxy with rights stand before it",
                address.port()
            ),
        ),
        Err(_) => bad(
            format!("{} is neither an address with a port nor a path", quoted(text)),
            "write as in \"127.0.0.1:9464\", \"[::1]:9464\" or \"/run/supd/metrics.sock\"",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<MetricsSettings, String> {
        let faults = |faults: Vec<Fault>| faults.iter().map(|fault| format!("{fault}\n")).collect();
        metrics_of(&Source::new("supd.toml", text.to_owned())).map_err(faults)
    }

    #[test]
    fn nothing_is_on_by_default() {
        assert_eq!(of("[Service]\nRestart = \"no\"\n"), Ok(MetricsSettings::default()));
        assert!(!MetricsSettings::default().is_on());
        assert_eq!(of("[Metrics]\nListen = \"\"\n"), Ok(MetricsSettings::default()));
    }

    #[test]
    fn what_is_written_is_meant() {
        let settings = of("[Metrics]\nListen = \"[::1]:9464\"\nFile = \"/v/supd.prom\"\nIntervalSec = 5\n");
        assert_eq!(
            settings,
            Ok(MetricsSettings {
                listen: Some(MetricsPlace::Tcp("[::1]:9464".parse().unwrap())),
                file: Some("/v/supd.prom".into()),
                interval: Duration::from_secs(5),
            })
        );
        assert!(of("[Metrics]\nListen = \"/run/supd/metrics.sock\"\n").is_ok());
    }

    #[test]
    fn only_this_machine_may_ask() {
        for (line, said) in [
            ("Listen = \"0.0.0.0:9464\"", "can be reached from other machines"),
            ("Listen = \"192.0.2.1:9464\"", "127.0.0.1:9464"),
            ("Listen = \"[::]:9464\"", "[::1]:9464"),
            ("Listen = \"127.0.0.1:0\"", "port 0"),
            ("Listen = \"localhost\"", "neither an address"),
            ("Listen = \"/a/../b\"", ".."),
            ("File = \"/v/supd.txt\"", ".prom"),
            ("File = \"supd.prom\"", "absolute"),
            ("IntervalSec = \"0\"", "out of range"),
            ("Lisen = \"x\"", "did you mean Listen?"),
        ] {
            let told = of(&format!("[Metrics]\n{line}\n")).unwrap_err();
            assert!(told.contains(said) && told.starts_with("supd.toml:2:"), "{line}: {told}");
        }
    }

    #[test]
    fn it_is_of_no_unit() {
        use crate::codec::unitfile::{Sources, check_defaults, parse};
        let unit = crate::model::UnitName::new("web").unwrap();
        let text = "[Service]\nExecStart = \"/bin/x\"\n";
        let own = |more: &str, defaults: &str| {
            let main = Source::new("web.unit", format!("{text}{more}"));
            let defaults = Some(Source::new("supd.toml", defaults.to_owned()));
            parse(&Sources { unit: unit.clone(), defaults, main, drop_ins: Vec::new() })
        };
        let right = "[Metrics]\nListen = \"127.0.0.1:9464\"\n";
        assert!(own("", right).is_ok());
        let told = own(right, "").unwrap_err();
        assert!(told[0].to_string().contains("write it in supd.toml"), "{}", told[0]);
        // One that supd will not take is told wherever supd.toml is read.
        let wrong = "[Metrics]\nListen = \"0.0.0.0:9464\"\n";
        assert!(own("", wrong).unwrap_err()[0].to_string().contains("other machines"));
        assert!(
            check_defaults(&Source::new("supd.toml", wrong.to_owned()))[0]
                .to_string()
                .contains("other machines")
        );
    }
}
