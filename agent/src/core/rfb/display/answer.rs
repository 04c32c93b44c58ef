//! What each part of the display's handshake leads to. It waits for nothing and keeps nothing
//! back: a whole part comes in, and what is awaited next is settled.

use bytes::Bytes;

use super::super::password::CHALLENGE_BYTES;
use super::super::security::{Offered, Security, TYPE_FAILED, TYPE_NONE, TYPE_VENCRYPT, TYPE_VNC};
use super::super::vencrypt;
use super::super::version::Version;
use super::{
    Awaited, Display, DisplayError, MAX_NAME_BYTES, MAX_REASON_BYTES, Piece, Refused,
    SERVER_INIT_BYTES, ServerInit,
};

impl Display<'_> {
    /// Takes one whole part.
    pub(super) fn answer(&mut self, part: &[u8], reply: &mut Vec<u8>) -> Result<(), DisplayError> {
        match self.awaited {
            Awaited::Version => return self.version(part, reply),
            Awaited::TypeCount => match number(part) {
                0 => self.wait_for(Awaited::ReasonLength(Refused::Connection), 4),
                count => self.wait_for(Awaited::Types, count as usize),
            },
            Awaited::Types => return self.types(part, reply),
            Awaited::DecidedType => return self.decided(number(part), reply),
            Awaited::VencryptVersion if part >= vencrypt::VERSION.as_slice() => {
                reply.extend_from_slice(&vencrypt::VERSION);
                self.wait_for(Awaited::VencryptAnswer, 1);
            }
            Awaited::VencryptAnswer if part == [0] => self.wait_for(Awaited::KindCount, 1),
            Awaited::VencryptVersion | Awaited::VencryptAnswer => {
                return Err(DisplayError::VencryptVersion);
            }
            Awaited::KindCount => self.wait_for(Awaited::Kinds, 4 * number(part) as usize),
            Awaited::Kinds => return self.kinds(part, reply),
            Awaited::KindAnswer if part == [1] => self.wait_for(Awaited::Tls, 0),
            Awaited::KindAnswer => return Err(DisplayError::KindRefused),
            // `secured` is waited for, and no bytes.
            Awaited::Tls => {}
            Awaited::Challenge => self.respond(part, reply),
            Awaited::Result => return self.result(number(part), reply),
            Awaited::ReasonLength(refused) => {
                let kept = (number(part) as usize).min(MAX_REASON_BYTES);
                self.wait_for(Awaited::Reason(refused), kept);
            }
            Awaited::Reason(refused) => return Err(refused.error(part)),
            Awaited::ServerInit => return self.server_init(part),
            Awaited::Name => self.name(part),
        }
        Ok(())
    }

    pub(super) fn wait_for(&mut self, awaited: Awaited, bytes: usize) {
        self.awaited = awaited;
        self.piece = Piece::of(bytes);
    }

    fn version(&mut self, part: &[u8], reply: &mut Vec<u8>) -> Result<(), DisplayError> {
        self.version = Version::of(part).map_err(DisplayError::Version)?;
        reply.extend_from_slice(self.version.bytes());
        match self.version {
            Version::V3_3 => self.wait_for(Awaited::DecidedType, 4),
            Version::V3_7 | Version::V3_8 => self.wait_for(Awaited::TypeCount, 1),
        }
        Ok(())
    }

    /// Chooses among the types. Which kind of VeNCrypt it will be shows later; that weaker
    /// types were offered beside it does not help then.
    fn types(&mut self, part: &[u8], reply: &mut Vec<u8>) -> Result<(), DisplayError> {
        let offered: Vec<u32> = part.iter().copied().map(u32::from).collect();
        let chosen = self
            .acceptable
            .strongest(|security| offered.contains(&security.number()));
        let Some(security) = chosen else {
            return Err(DisplayError::NoneAcceptable(Offered::new(offered)));
        };
        // The types that are known are all below 256.
        reply.push(security.number() as u8);
        self.begin(security, reply);
        Ok(())
    }

    /// The server of 3.3 decides, and asks nobody. VeNCrypt is not defined there.
    fn decided(&mut self, decided: u32, reply: &mut Vec<u8>) -> Result<(), DisplayError> {
        if decided == TYPE_FAILED {
            self.wait_for(Awaited::ReasonLength(Refused::Connection), 4);
            return Ok(());
        }
        let chosen = self
            .acceptable
            .strongest(|security| decided != TYPE_VENCRYPT && security.number() == decided);
        match chosen {
            Some(security) => self.begin(security, reply),
            None => return Err(DisplayError::NoneAcceptable(Offered::new(vec![decided]))),
        }
        Ok(())
    }

    fn begin(&mut self, security: Security, reply: &mut Vec<u8>) {
        match security.number() {
            TYPE_VNC => {
                self.security = Some(security);
                self.wait_for(Awaited::Challenge, CHALLENGE_BYTES);
            }
            TYPE_NONE => {
                self.security = Some(security);
                match self.version {
                    Version::V3_8 => {
                        if self.says_init_early() {
                            self.say_init(reply);
                        }
                        self.wait_for(Awaited::Result, 4);
                    }
                    Version::V3_3 | Version::V3_7 => self.client_init(reply),
                }
            }
            _ => self.wait_for(Awaited::VencryptVersion, 2),
        }
    }

    fn kinds(&mut self, part: &[u8], reply: &mut Vec<u8>) -> Result<(), DisplayError> {
        let (kinds, _) = part.as_chunks::<4>();
        let offered: Vec<u32> = kinds.iter().map(|kind| u32::from_be_bytes(*kind)).collect();
        let offers = |kind: Option<u32>| kind.is_some_and(|kind| offered.contains(&kind));
        let chosen = self.acceptable.strongest(|it| offers(it.subtype()));
        let Some(security) = chosen else {
            return Err(DisplayError::NoneAcceptable(Offered::new(offered)));
        };
        reply.extend_from_slice(&security.subtype().unwrap_or_default().to_be_bytes());
        self.security = Some(security);
        self.wait_for(Awaited::KindAnswer, 1);
        Ok(())
    }

    fn respond(&mut self, challenge: &[u8], reply: &mut Vec<u8>) {
        if let (Some(password), Some(challenge)) =
            (&self.acceptable.password, challenge.first_chunk())
        {
            reply.extend_from_slice(&password.respond(challenge));
        }
        self.wait_for(Awaited::Result, 4);
    }

    /// Any number but 0 is a refusal: 1, and 2 of servers that count tries.
    fn result(&mut self, result: u32, reply: &mut Vec<u8>) -> Result<(), DisplayError> {
        match (result, self.version) {
            (0, _) => self.client_init(reply),
            (_, Version::V3_8) => {
                self.wait_for(Awaited::ReasonLength(Refused::Authentication), 4);
            }
            (_, Version::V3_3 | Version::V3_7) => return Err(Refused::Authentication.error(&[])),
        }
        Ok(())
    }

    /// Whether ClientInit goes along with the choice of None: nothing is asked for. That 3.8 says
    /// so first is waited for only by who ends other viewers with ClientInit, since it costs a
    /// way there and back.
    fn says_init_early(&self) -> bool {
        self.shared && self.version == Version::V3_8 && self.security == Some(Security::None)
    }

    fn say_init(&self, reply: &mut Vec<u8>) {
        reply.push(u8::from(self.shared));
    }

    fn client_init(&mut self, reply: &mut Vec<u8>) {
        if !self.says_init_early() {
            self.say_init(reply);
        }
        self.wait_for(Awaited::ServerInit, SERVER_INIT_BYTES);
    }

    fn server_init(&mut self, part: &[u8]) -> Result<(), DisplayError> {
        let length = part.last_chunk::<4>().copied().map(u32::from_be_bytes);
        match length.map(|length| length as usize) {
            Some(length) if length <= MAX_NAME_BYTES => {
                self.head = part.to_vec();
                self.wait_for(Awaited::Name, length);
                Ok(())
            }
            _ => Err(DisplayError::NameTooLong),
        }
    }

    fn name(&mut self, name: &[u8]) {
        let mut raw = std::mem::take(&mut self.head);
        raw.extend_from_slice(name);
        if let Some(&[w1, w0, h1, h0, ref format @ ..]) = raw.first_chunk::<20>() {
            self.end = Some(Ok(ServerInit {
                width: u16::from_be_bytes([w1, w0]),
                height: u16::from_be_bytes([h1, h0]),
                pixel_format: *format,
                raw: Bytes::from(raw),
            }));
        }
    }
}

/// Of up to four bytes, the most significant first.
fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}
