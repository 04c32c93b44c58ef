//! The commands that the agent sends, and the shapes of their answers. None of them changes a
//! VM's configuration; those that do something to the guest say so.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::hypervisor::VmState;

/// A command: what is serialized are its arguments.
pub(in crate::hypervisor::qemu) trait Command:
    Serialize + Sync
{
    /// QEMU's name for it.
    const NAME: &'static str;
    /// What QEMU answers.
    type Answer: DeserializeOwned + Send;
}

macro_rules! commands {
    ($($(#[$doc:meta])* $command:ty => $name:literal, $answer:ty;)*) => {
        $(impl Command for $command {
            const NAME: &'static str = $name;
            type Answer = $answer;
        })*
    };
}

commands! {
    Negotiate => "qmp_capabilities", IgnoredAny;
    QueryName => "query-name", Name;
    QueryUuid => "query-uuid", Uuid;
    QueryStatus => "query-status", Status;
    QueryChardev => "query-chardev", Vec<Chardev>;
    QomList<'_> => "qom-list", Vec<QomProperty>;
    SendBreak<'_> => "chardev-send-break", IgnoredAny;
    SendKey => "send-key", IgnoredAny;
    InjectNmi => "inject-nmi", IgnoredAny;
    QueryFdsets => "query-fdsets", Vec<FdSet>;
    AddFd<'_> => "add-fd", FdAdded;
    Screendump<'_> => "screendump", IgnoredAny;
    QueryVncServers => "query-vnc-servers", Vec<VncServer>;
    QueryVnc => "query-vnc", Vnc;
    GetFd<'_> => "getfd", IgnoredAny;
    CloseFd<'_> => "closefd", IgnoredAny;
    AddClient<'_> => "add_client", IgnoredAny;
}

/// Ends the greeting.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct Negotiate {}

/// Asks for the VM's name.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct QueryName {}

/// A VM's name.
#[derive(Deserialize)]
pub(in crate::hypervisor::qemu) struct Name {
    /// As `-name` gave it, if it did.
    pub(in crate::hypervisor::qemu) name: Option<String>,
}

/// Asks for the VM's UUID.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct QueryUuid {}

/// A VM's UUID.
#[derive(Deserialize)]
pub(in crate::hypervisor::qemu) struct Uuid {
    /// As `-uuid` gave it; all zeros if it did not.
    #[serde(rename = "UUID")]
    pub(in crate::hypervisor::qemu) uuid: uuid::Uuid,
}

/// Asks what the VM is doing.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct QueryStatus {}

/// What a VM is doing.
#[derive(Deserialize)]
pub(in crate::hypervisor::qemu) struct Status {
    status: String,
    running: bool,
}

impl Status {
    /// Whether it is between two states of which QEMU tells only the first: the end of a live
    /// migration comes after STOP, without an event (`migration_completion`).
    pub(in crate::hypervisor::qemu) fn is_passing(&self) -> bool {
        self.status == "finish-migrate"
    }

    /// What that is to the agent. While a QEMU answers there is a console, so none of these is
    /// off: one whose guest panicked is kept by QEMU as paused, with its last words.
    pub(in crate::hypervisor::qemu) fn state(&self) -> VmState {
        match (self.status.as_str(), self.running) {
            ("shutdown", _) => VmState::Stopping,
            ("postmigrate", false) => VmState::Moved,
            (_, true) => VmState::Running,
            (_, false) => VmState::Paused,
        }
    }
}

/// Asks for the character devices.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct QueryChardev {}

/// A character device: the host's side of a port.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::hypervisor::qemu) struct Chardev {
    /// Its id.
    pub(in crate::hypervisor::qemu) label: String,
    /// What it is, in QEMU's own notation; see [`super::super::chardev`].
    pub(in crate::hypervisor::qemu) filename: String,
    /// Whether a device of the VM uses it.
    #[serde(rename = "frontend-open")]
    pub(in crate::hypervisor::qemu) frontend_open: bool,
}

/// Asks for an object's properties and children.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct QomList<'a> {
    /// The object's path.
    pub(in crate::hypervisor::qemu) path: &'a str,
}

/// A property of an object.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::hypervisor::qemu) struct QomProperty {
    /// Its name.
    pub(in crate::hypervisor::qemu) name: String,
    /// Its type; `child<TYPE>` for an object below.
    #[serde(rename = "type")]
    pub(in crate::hypervisor::qemu) kind: String,
}

/// Asks for a property's value, which is an `A`.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct QomGet<'a, A> {
    path: &'a str,
    property: &'a str,
    #[serde(skip)]
    answer: std::marker::PhantomData<fn() -> A>,
}

impl<'a, A> QomGet<'a, A> {
    /// Asks for `property` of the object at `path`.
    pub(in crate::hypervisor::qemu) const fn new(path: &'a str, property: &'a str) -> Self {
        Self {
            path,
            property,
            answer: std::marker::PhantomData,
        }
    }
}

impl<A: DeserializeOwned + Send> Command for QomGet<'_, A> {
    const NAME: &'static str = "qom-get";
    type Answer = A;
}

/// Where a socket chardev listens, or connects to: its property `addr`.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::hypervisor::qemu) struct SocketAddress {
    /// The host, of an internet address.
    pub(in crate::hypervisor::qemu) host: Option<String>,
    /// The port, of an internet address, in decimal digits.
    pub(in crate::hypervisor::qemu) port: Option<String>,
}

/// Puts a break on a chardev's line: the guest sees it.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct SendBreak<'a> {
    /// The chardev's label.
    pub(in crate::hypervisor::qemu) id: &'a str,
}

/// Presses keys: the guest sees them.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct SendKey {
    /// Which.
    pub(in crate::hypervisor::qemu) keys: Vec<KeyValue>,
    /// For how long, in milliseconds.
    #[serde(rename = "hold-time")]
    pub(in crate::hypervisor::qemu) hold_time: u64,
}

/// One key.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "lowercase")]
pub(in crate::hypervisor::qemu) enum KeyValue {
    /// By QEMU's name.
    Qcode(&'static str),
}

/// Injects a non-maskable interrupt: the guest sees it.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct InjectNmi {}

/// Asks which descriptors QEMU was given.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct QueryFdsets {}

/// A set of descriptors that QEMU was given.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::hypervisor::qemu) struct FdSet {
    /// Its number.
    #[serde(rename = "fdset-id")]
    pub(in crate::hypervisor::qemu) fdset_id: u64,
    /// The descriptors in it.
    pub(in crate::hypervisor::qemu) fds: Vec<FdInfo>,
}

/// One such descriptor.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::hypervisor::qemu) struct FdInfo {
    /// What it is for, as whoever gave it said.
    pub(in crate::hypervisor::qemu) opaque: Option<String>,
}

/// Gives QEMU a descriptor, which goes with the command.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct AddFd<'a> {
    /// What it is for: QEMU keeps it, and tells it to whoever asks.
    pub(in crate::hypervisor::qemu) opaque: &'a str,
}

/// Where QEMU put a descriptor.
#[derive(Deserialize)]
pub(in crate::hypervisor::qemu) struct FdAdded {
    /// The set's number: QEMU opens `/dev/fdset/NUMBER` by duplicating it.
    #[serde(rename = "fdset-id")]
    pub(in crate::hypervisor::qemu) fdset_id: u64,
}

/// Has QEMU write a picture of the VM's first screen, as PPM.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct Screendump<'a> {
    /// Where to.
    pub(in crate::hypervisor::qemu) filename: &'a str,
}

/// Asks for the VNC displays (QEMU 2.3 and newer).
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct QueryVncServers {}

/// A VNC display.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::hypervisor::qemu) struct VncServer {
    /// Its id.
    pub(in crate::hypervisor::qemu) id: String,
    /// Where it listens.
    pub(in crate::hypervisor::qemu) server: Vec<VncListener>,
}

/// Where a VNC display listens.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::hypervisor::qemu) struct VncListener {
    /// The address, if it has one.
    pub(in crate::hypervisor::qemu) host: String,
    /// The port in decimal digits, or the unix socket's path.
    pub(in crate::hypervisor::qemu) service: String,
    /// `unix`, `ipv4`, `ipv6`, …
    pub(in crate::hypervisor::qemu) family: String,
    /// Whether it speaks WebSocket.
    #[serde(default)]
    pub(in crate::hypervisor::qemu) websocket: bool,
}

/// Asks for the first VNC display.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct QueryVnc {}

/// The first VNC display, as far as it listens.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::hypervisor::qemu) struct Vnc {
    /// Whether it does.
    pub(in crate::hypervisor::qemu) enabled: bool,
    /// As [`VncListener::host`].
    pub(in crate::hypervisor::qemu) host: Option<String>,
    /// As [`VncListener::service`].
    pub(in crate::hypervisor::qemu) service: Option<String>,
    /// As [`VncListener::family`].
    pub(in crate::hypervisor::qemu) family: Option<String>,
}

/// Gives the monitor a descriptor for its next commands, which goes with this one. One of the
/// same name takes the place of the one before.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct GetFd<'a> {
    /// What those commands call it.
    pub(in crate::hypervisor::qemu) fdname: &'a str,
}

/// Closes a descriptor of [`GetFd`] that no command has taken.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct CloseFd<'a> {
    /// What it is called.
    pub(in crate::hypervisor::qemu) fdname: &'a str,
}

/// Has a display serve a descriptor of [`GetFd`], which is taken by it, refused or not.
#[derive(Serialize)]
pub(in crate::hypervisor::qemu) struct AddClient<'a> {
    /// `vnc` for the first VNC display.
    pub(in crate::hypervisor::qemu) protocol: &'a str,
    /// What the descriptor is called.
    pub(in crate::hypervisor::qemu) fdname: &'a str,
    /// Whether it is let in without authentication.
    pub(in crate::hypervisor::qemu) skipauth: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(command: &impl Command) -> String {
        serde_json::to_string(command).unwrap()
    }

    #[test]
    fn arguments_are_as_qemu_names_them() {
        assert_eq!(json(&QueryName {}), "{}");
        let get = QomGet::<String>::new("/machine", "chardev");
        assert_eq!(json(&get), r#"{"path":"/machine","property":"chardev"}"#);
        let keys = SendKey {
            keys: vec![KeyValue::Qcode("ctrl")],
            hold_time: 100,
        };
        let text = r#"{"keys":[{"type":"qcode","data":"ctrl"}],"hold-time":100}"#;
        assert_eq!(json(&keys), text);
        assert_eq!(json(&AddFd { opaque: "x" }), r#"{"opaque":"x"}"#);
        let add = AddClient {
            protocol: "vnc",
            fdname: "x",
            skipauth: true,
        };
        let text = r#"{"protocol":"vnc","fdname":"x","skipauth":true}"#;
        assert_eq!(json(&add), text);
    }

    #[test]
    fn every_state_of_a_qemu_that_answers_has_a_console() {
        let states = [
            ("running", true, VmState::Running),
            ("prelaunch", false, VmState::Paused),
            ("guest-panicked", false, VmState::Paused),
            ("shutdown", false, VmState::Stopping),
            ("postmigrate", false, VmState::Moved),
            ("inmigrate", false, VmState::Paused),
            ("a state of a later QEMU", true, VmState::Running),
        ];
        for (status, running, state) in states {
            let status = Status {
                status: status.to_owned(),
                running,
            };
            assert_eq!(status.state(), state);
            assert!(state.has_console());
        }
    }
}
