//! Puts breaks on an attached console's line, each with nothing typed between it and its
//! character. While it does, no input is written; whatever else the pump does goes on.

use std::time::Duration;

use tokio::time::{sleep, sleep_until, timeout};

use super::input::{Character, InputLine};
use crate::console::breaks::Break;
use crate::core::id::ConsoleId;
use crate::endpoint::EndpointError;
use crate::hypervisor::{EffectError, Hypervisor};

/// How long the endpoint, and after it the hypervisor, may take to send a break.
const BREAK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the endpoint may take to take the character. A Linux guest forgets the break after
/// as long.
const CHARACTER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long input that was typed before a break may take to be read. A break by the monitor
/// overtakes it, and its first byte would be taken for the break's character.
const READ_BEFORE: Duration = Duration::from_secs(1);

/// How often it is looked whether that was read.
const LOOK: Duration = Duration::from_millis(10);

/// How long after input was taken a break by the monitor is sent, where it cannot be seen
/// whether that was read.
const SETTLED: Duration = Duration::from_millis(100);

/// Why a break, or its character, was not sent.
enum Failure {
    Refused(EffectError),
    /// The attachment is broken, and so much happened before.
    Broken(&'static str, EndpointError),
}

const NOT_SENT: &str = "the break was not sent";
const CHARACTER_NOT_SENT: &str = "the break was sent, and its character was not";

impl InputLine<'_> {
    /// Sends the breaks that wait, one after the other.
    ///
    /// # Errors
    /// The attachment is broken.
    ///
    /// # Cancel safety
    /// As [`InputLine::send_break`]; those that were not begun still wait.
    pub(super) async fn send_breaks(
        &mut self,
        hypervisor: &dyn Hypervisor,
    ) -> Result<(), EndpointError> {
        while let Some(asked) = self.console.take_break() {
            self.send_break(asked, hypervisor).await?;
        }
        Ok(())
    }

    /// Sends a break and its character, and answers whoever asked for it.
    ///
    /// # Errors
    /// The attachment is broken.
    ///
    /// # Cancel safety
    /// If dropped, the break may or may not have been sent, and so the character. Whoever asked
    /// is told so.
    async fn send_break(
        &mut self,
        asked: Break,
        hypervisor: &dyn Hypervisor,
    ) -> Result<(), EndpointError> {
        if asked.is_given_up() {
            return Ok(());
        }
        self.abandon();
        let sent = match self.put_break(asked.character, hypervisor).await {
            Ok(()) => self.put_character(asked.character).await,
            failed => failed,
        };
        match sent {
            Ok(()) => {
                asked.answer(Ok(()));
                Ok(())
            }
            Err(Failure::Refused(error)) => {
                asked.answer(Err(error));
                Ok(())
            }
            Err(Failure::Broken(how_far, error)) => {
                asked.answer(Err(EffectError::Unreachable(format!("{how_far}: {error}"))));
                Err(error)
            }
        }
    }

    async fn put_break(
        &mut self,
        character: Option<u8>,
        hypervisor: &dyn Hypervisor,
    ) -> Result<(), Failure> {
        match timeout(BREAK_TIMEOUT, self.attachment.send_break()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(EndpointError::Unsupported(_))) => {
                self.wait_until_read(character).await?;
                let console = self.console.id();
                by_monitor(console, hypervisor)
                    .await
                    .map_err(Failure::Refused)
            }
            Ok(Err(error)) => Err(Failure::Broken(NOT_SENT, error)),
            Err(_) if self.attachment.is_breaking() => Err(unreachable(format!(
                "the console takes nothing since {BREAK_TIMEOUT:?}, and has half of the break: it \
                 may or may not be sent"
            ))),
            Err(_) => Err(Failure::Refused(EffectError::NotDone(format!(
                "the console takes nothing since {BREAK_TIMEOUT:?}"
            )))),
        }
    }

    /// Waits until the guest has most likely read what was typed before.
    async fn wait_until_read(&mut self, character: Option<u8>) -> Result<(), Failure> {
        match timeout(READ_BEFORE, self.settle_all()).await {
            Ok(settled) => settled.map_err(|error| Failure::Broken(NOT_SENT, error))?,
            Err(_) => return unread_before(character),
        }
        let attachment = &mut *self.attachment;
        if attachment.unread().is_none() {
            if let Some(last) = self.last_taken {
                sleep_until((last + SETTLED).into()).await;
            }
            return Ok(());
        }
        let read = async move {
            while attachment.unread().is_some_and(|unread| unread > 0) {
                sleep(LOOK).await;
            }
        };
        match timeout(READ_BEFORE, read).await {
            Err(_) => unread_before(character),
            Ok(()) => Ok(()),
        }
    }

    async fn put_character(&mut self, character: Option<u8>) -> Result<(), Failure> {
        let Some(character) = character else {
            return Ok(());
        };
        match timeout(CHARACTER_TIMEOUT, self.write_character(character)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::Broken(CHARACTER_NOT_SENT, error)),
            Err(_) => match self.abandon_character() {
                Character::Taken => Ok(()),
                Character::UnderWay => Err(unreachable(format!(
                    "the break was sent, and its character may or may not be: the console takes \
                     nothing since {CHARACTER_TIMEOUT:?}"
                ))),
                Character::NotTaken => Err(unreachable(format!(
                    "{CHARACTER_NOT_SENT}: the console takes nothing since {CHARACTER_TIMEOUT:?}"
                ))),
            },
        }
    }
}

/// What the guest did not read comes before a break's character, and would be taken for it.
fn unread_before(character: Option<u8>) -> Result<(), Failure> {
    // Without a character, it is for whoever asked to know what comes after it.
    character.map_or(Ok(()), |_| {
        Err(Failure::Refused(EffectError::NotDone(
            "the guest has not read what was typed before, which would be taken for the break's \
             character"
                .to_owned(),
        )))
    })
}

async fn by_monitor(console: &ConsoleId, hypervisor: &dyn Hypervisor) -> Result<(), EffectError> {
    let sent = timeout(BREAK_TIMEOUT, hypervisor.send_break(console)).await;
    sent.unwrap_or_else(|_| {
        Err(EffectError::Unreachable(format!(
            "no answer within {BREAK_TIMEOUT:?}: the break may or may not have been sent"
        )))
    })
}

fn unreachable(detail: String) -> Failure {
    Failure::Refused(EffectError::Unreachable(detail))
}
