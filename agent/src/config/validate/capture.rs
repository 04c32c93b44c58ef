//! When consoles are held, and how much is kept of all of them: `[capture]`.

use toml::Spanned;

use super::super::error::{ConfigError, Source};
use super::super::{
    BUDGET_BYTES, Capture, CaptureMode, CaptureRule, LINGER_SECONDS, MAX_CAPTURE_RULES, raw,
};
use super::rules::{each, rules, vms};
use super::{one_of, seconds, whole};
use crate::core::id::Alias;

const MODES: [(&str, CaptureMode); 3] = [
    ("on-demand", CaptureMode::OnDemand),
    ("always", CaptureMode::Always),
    ("off", CaptureMode::Off),
];

pub(super) fn capture(raw: raw::Capture, source: &Source<'_>) -> Result<Capture, ConfigError> {
    let key = "capture.rule";
    let rules = rules(raw.rule, key, MAX_CAPTURE_RULES, source, |it| {
        rule(it, source)
    })?;
    Ok(Capture {
        mode: one_of(
            raw.mode,
            "capture.mode",
            &MODES,
            CaptureMode::OnDemand,
            source,
        )?,
        linger: seconds(
            &raw.linger_seconds,
            "capture.linger_seconds",
            &LINGER_SECONDS,
            source,
        )?,
        budget_bytes: whole(
            &raw.budget_bytes,
            "capture.budget_bytes",
            &BUDGET_BYTES,
            source,
        )?,
        rules,
    })
}

fn rule(raw: Spanned<raw::CaptureRule>, source: &Source<'_>) -> Result<CaptureRule, ConfigError> {
    let (span, raw) = (raw.span(), raw.into_inner());
    if raw.mode.is_none() && raw.linger_seconds.is_none() {
        let message = "says nothing; write mode or linger_seconds, or leave the rule out";
        return Err(source.invalid("capture.rule", span, message.into()));
    }
    let vms = vms(raw.vms, "capture.rule.vms", span, source)?;
    let linger = raw.linger_seconds.is_some().then(|| {
        let key = "capture.rule.linger_seconds";
        seconds(&raw.linger_seconds, key, &LINGER_SECONDS, source)
    });
    let mode = raw.mode.is_some().then(|| {
        let key = "capture.rule.mode";
        one_of(raw.mode, key, &MODES, CaptureMode::OnDemand, source)
    });
    Ok(CaptureRule {
        vms,
        aliases: match raw.aliases {
            None => Vec::new(),
            Some(aliases) => each(aliases, "capture.rule.aliases", source, |text| {
                Alias::new(text).map_err(|error| error.to_string())
            })?,
        },
        mode: mode.transpose()?,
        linger: linger.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::super::Config;
    use super::*;
    use crate::core::selector::VmSelector;

    const REQUIRED: &str = "[grpc]\ncertificate='/a'\nprivate_key='/b'\nclient_ca='/c'\n\
                            [access]\nallowed_clients=['a']\n";

    fn parse(more: &str) -> Result<Capture, String> {
        let config = Config::parse(&format!("{REQUIRED}{more}"), Path::new("x.toml"));
        config
            .map(|config| config.capture)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_of_capture_holds() {
        let text = "[capture]\nmode = 'always'\nlinger_seconds = 0\nbudget_bytes = 1048576\n\
                    [[capture.rule]]\nvms = ['web-*']\nmode = 'off'\n\
                    [[capture.rule]]\nvms = ['00000000-0000-4000-8000-000000000000']\n\
                    aliases = ['serial1']\nlinger_seconds = 7\n";
        let capture = parse(text).expect("valid");
        assert_eq!(capture.mode, CaptureMode::Always);
        assert_eq!(capture.linger, Duration::ZERO);
        assert_eq!(capture.budget_bytes, 1 << 20);
        let [first, second] = capture.rules.as_slice() else {
            panic!("two rules")
        };
        assert_eq!(first.vms, [VmSelector::Name("web-*".to_owned())]);
        assert_eq!((first.mode, first.linger), (Some(CaptureMode::Off), None));
        assert!(matches!(second.vms[..], [VmSelector::Uuid(_)]));
        assert_eq!(second.aliases, [Alias::new("serial1").expect("an alias")]);
        assert_eq!(second.linger, Some(Duration::from_secs(7)));
    }

    #[test]
    fn an_error_in_a_rule_names_its_line_and_key() {
        let rule = |text: &str| parse(&format!("[[capture.rule]]\n{text}\n")).expect_err("wrong");
        for (text, refusal) in [
            (
                "vms = ['']\nmode='off'",
                "x.toml:8:8: capture.rule.vms: not a VM's UUID or name",
            ),
            (
                "vms = []\nmode='off'",
                "x.toml:8:7: capture.rule.vms: has 0 entries; write 1 to 64",
            ),
            ("mode='off'", "x.toml:7:1: capture.rule.vms: is missing"),
            ("vms=['a']", "x.toml:7:1: capture.rule: says nothing"),
            (
                "vms=['a']\nmode='on'",
                "x.toml:9:6: capture.rule.mode: not known",
            ),
            (
                "vms=['a']\nlinger_seconds=86401",
                "x.toml:9:16: capture.rule.linger_seconds: out of range",
            ),
            (
                "vms=['a']\nmode='off'\naliases=['a b']",
                "x.toml:10:10: capture.rule.aliases: ",
            ),
        ] {
            let told = rule(text);
            assert!(told.starts_with(refusal), "{told}");
        }
        let many = "[[capture.rule]]\nvms=['a']\nmode='off'\n".repeat(MAX_CAPTURE_RULES + 1);
        let told = parse(&many).expect_err("too many");
        assert!(
            told.contains("capture.rule: has 257 entries; write at most 256"),
            "{told}"
        );
        let unknown = parse("[[capture.rule]]\nvms=['a']\nlevel=1\n").expect_err("unknown");
        assert!(unknown.contains("unknown field"), "{unknown}");
    }
}
