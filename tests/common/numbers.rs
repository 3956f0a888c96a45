//! A codec for calls of tonic's that needs no generated code.

use bytes::{Buf, BufMut};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Numbers, eight bytes each.
#[derive(Clone, Copy, Default)]
pub(crate) struct Numbers;

impl Codec for Numbers {
    type Encode = u64;
    type Decode = u64;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Numbers {
    type Item = u64;
    type Error = Status;

    fn encode(&mut self, item: u64, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put_u64(item);
        Ok(())
    }
}

impl Decoder for Numbers {
    type Item = u64;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<u64>, Status> {
        Ok(Some(buf.get_u64()))
    }
}
