//! One line of the kernel's log, or of auditd's, as a denial.
//!
//! Refuses lines that only mention one: the marks stand where the kernel writes them.

use std::time::Duration;

/// The longest line that is looked at, in bytes.
const MAX_LINE: usize = 8192;

/// The most fields of one record.
const MAX_FIELDS: usize = 64;

/// The longest value that is kept, in bytes.
const MAX_VALUE: usize = 256;

/// The last second of the year 9999: what lies behind cannot be written as a date.
const MAX_SECONDS: u64 = 253_402_300_799;

/// Which security module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Module {
    AppArmor,
    SeLinux,
}

/// A denial, without what tells one time from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Denial {
    pub(super) module: Module,
    /// Whether it was kept, or only noted.
    pub(super) enforced: bool,
    /// The process's (or thread's) name, at most 15 bytes of it.
    pub(super) command: String,
    /// Its profile, or context.
    pub(super) domain: String,
    /// What it wanted to do.
    pub(super) what: String,
    /// The rights that it lacked, by AppArmor's letters. Empty for SELinux.
    pub(super) rights: String,
    /// The file or socket, if it was one.
    pub(super) target: String,
    /// The target's context. Empty for AppArmor.
    pub(super) target_domain: String,
}

/// A denial at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) denial: Denial,
    /// When it was, since 1970; `None` where the line does not say.
    pub(super) at: Option<Duration>,
}

/// Reads a line; `None` if it is no denial.
pub(super) fn parse(line: &str) -> Option<Record> {
    if line.len() > MAX_LINE {
        return None;
    }
    let (begins, denial) = apparmor(line).or_else(|| selinux(line))?;
    // After the mark come names that anybody may choose.
    let at = time(&line[..begins]);
    Some(Record { denial, at })
}

/// The time in `audit(1699999999.123:45)`: seconds since 1970 with three further digits, and
/// the record's number.
fn time(text: &str) -> Option<Duration> {
    let (_, rest) = text.split_once("audit(")?;
    let (seconds, rest) = rest.split_once('.')?;
    let (millis, _) = rest.split_once(':')?;
    let number = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (seconds, millis) = (number(seconds)?, number(millis)?);
    let plausible = seconds <= MAX_SECONDS && millis < 1000;
    plausible.then(|| Duration::from_secs(seconds) + Duration::from_millis(millis))
}

/// `audit: type=1400 audit(1.2:3): apparmor="DENIED" operation="open" profile="…" name="…" …`
/// Returns where the mark is, too.
fn apparmor(line: &str) -> Option<(usize, Denial)> {
    let at = line.find("apparmor=\"")?;
    let fields = fields(&line[at..]);
    let get = |name| value(&fields, name);
    let enforced = match get("apparmor").as_str() {
        "DENIED" => true,
        "ALLOWED" => false,
        _ => return None,
    };
    // A capability, a signal, another process, a network: none of them has a name.
    let more = ["capname", "signal", "family", "peer"].map(get);
    let more = more.iter().filter(|value| !value.is_empty());
    let what: Vec<_> = std::iter::once(&get("operation"))
        .chain(more)
        .cloned()
        .collect();
    let denial = Denial {
        module: Module::AppArmor,
        enforced,
        command: get("comm"),
        domain: get("profile"),
        what: what.join(" "),
        rights: get("denied_mask"),
        target: get("name"),
        target_domain: String::new(),
    };
    Some((at, denial))
}

/// `avc:  denied  { connectto } for  pid=1 comm="…" path="…" scontext=… tcontext=… tclass=…`
/// Returns where the mark is, too.
fn selinux(line: &str) -> Option<(usize, Denial)> {
    let at = line.find("avc:")?;
    let rest = &line[at + "avc:".len()..];
    let rest = rest.trim_start().strip_prefix("denied")?;
    let (rights, rest) = rest.trim_start().strip_prefix('{')?.split_once('}')?;
    let fields = fields(rest);
    let get = |name| value(&fields, name);
    let paths = ["path", "name"].map(get);
    let target = paths.into_iter().find(|path| !path.is_empty());
    let denial = Denial {
        module: Module::SeLinux,
        enforced: get("permissive") != "1",
        command: get("comm"),
        domain: get("scontext"),
        what: cut(&format!("{} ({})", rights.trim(), get("tclass"))),
        rights: String::new(),
        target: target.unwrap_or_default(),
        target_domain: get("tcontext"),
    };
    Some((at, denial))
}

/// `name=value` and `name="value"`, in order.
fn fields(text: &str) -> Vec<(&str, String)> {
    let mut fields = Vec::new();
    let mut rest = text;
    while let Some(equals) = rest.find('=') {
        if fields.len() == MAX_FIELDS {
            break;
        }
        let name = rest[..equals].rsplit(char::is_whitespace).next();
        let after = &rest[equals + 1..];
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, left) = quoted.split_once('"').unwrap_or((quoted, ""));
                (value.to_owned(), left)
            }
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        let quoted = after.starts_with('"');
        fields.push((name.unwrap_or_default(), plain(name, value, quoted)));
        rest = left;
    }
    fields
}

/// What the kernel writes in hexadecimal digits, since it has a blank or worse, as text.
fn plain(name: Option<&str>, value: String, quoted: bool) -> String {
    let text = matches!(name, Some("comm" | "name" | "path" | "exe" | "profile"));
    let digits = value.len().is_multiple_of(2) && value.bytes().all(|b| b.is_ascii_hexdigit());
    if quoted || !text || !digits {
        return cut(&value);
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = value.as_bytes().chunks(2).filter_map(byte).collect();
    cut(&String::from_utf8_lossy(&bytes))
}

fn value(fields: &[(&str, String)], name: &str) -> String {
    let found = fields.iter().find(|(field, _)| *field == name);
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_VALUE.min(text.len()));
    text[..end].to_owned()
}
