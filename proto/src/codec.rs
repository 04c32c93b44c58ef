//! How messages become bytes: as everywhere in gRPC, with buffers that begin small.
//!
//! A stream that says nothing holds what its buffers began with, in both directions;
//! tonic begins with 8 KiB each. They grow to what a message takes.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// What a buffer begins with, in bytes: a keystroke, or a change of state.
const FIRST: usize = 512;

/// So many encoded bytes are handed on without waiting for more messages.
const YIELD: usize = 32 * 1024;

/// The codec of every method of the package.
#[derive(Clone, Debug)]
pub struct SmallBuffers<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallBuffers<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(FIRST, YIELD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(FIRST, YIELD))
    }
}
