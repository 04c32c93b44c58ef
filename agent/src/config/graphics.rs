//! `[graphics]`: how displays are reached, and what is kept from guests and callers.

use std::path::PathBuf;
use std::time::Duration;

use super::Number;
use crate::core::rfb::rules::Rules;
use crate::core::rfb::security::Security;
use crate::core::selector::VmSelector;

/// `graphics.open_seconds`.
pub const OPEN_SECONDS: Number = super::number(10, 1, 60);
/// The most rules that `graphics.rule` may have.
pub const MAX_GRAPHICS_RULES: usize = 256;

/// `[graphics]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graphics {
    /// The ways to a display, in the order in which they are tried. At least one.
    pub reach: Vec<DisplayWay>,
    /// How the agent lets itself be authenticated by a display that it reaches by its socket or
    /// port. At least one.
    pub authentication: Vec<Security>,
    /// The file that holds the password of displays that ask for one.
    pub password_file: Option<PathBuf>,
    /// The user's name, for displays that ask for one.
    pub username: Option<String>,
    /// What displays' certificates are checked with.
    pub tls: Option<DisplayTls>,
    /// How long the opening of a display may take.
    pub open: Duration,
    /// What holds for displays that no rule is about.
    pub terms: GraphicsTerms,
    /// What is otherwise for some VMs: the first rule that is about a VM counts. At most
    /// [`MAX_GRAPHICS_RULES`].
    pub rules: Vec<GraphicsRule>,
}

impl Default for Graphics {
    /// What holds if nothing is written.
    fn default() -> Self {
        Self {
            reach: vec![DisplayWay::Descriptor, DisplayWay::Unix, DisplayWay::Tcp],
            authentication: vec![
                Security::None,
                Security::Vnc,
                Security::X509None,
                Security::X509Vnc,
                Security::X509Plain,
            ],
            password_file: None,
            username: None,
            tls: None,
            open: Duration::from_secs(OPEN_SECONDS.default),
            terms: GraphicsTerms::default(),
            rules: Vec::new(),
        }
    }
}

/// A way to a display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisplayWay {
    /// A descriptor that the hypervisor hands over.
    Descriptor,
    /// Its unix socket.
    Unix,
    /// Its TCP port.
    Tcp,
}

/// The certificates of displays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisplayTls {
    /// The certificates that displays' certificates are issued by, PEM.
    pub ca: PathBuf,
    /// The agent's own certificate and its key, for displays that ask for one, PEM.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The name that a display's certificate bears, if not that of its host.
    pub expected_name: Option<String>,
    /// Whether a certificate without any other name may bear it as its common name.
    pub allow_common_name: bool,
}

/// What holds for relays of a display, whatever their callers want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphicsTerms {
    /// What is kept from guest and caller.
    pub rules: Rules,
    /// Each session is alone at the display.
    pub exclusive: bool,
}

/// One of `[[graphics.rule]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphicsRule {
    /// The VMs that it is about: 1 to [`super::MAX_ENTRIES`].
    pub vms: Vec<VmSelector>,
    /// What holds for them.
    pub terms: GraphicsTerms,
}
