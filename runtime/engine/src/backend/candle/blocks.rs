//! Blocks on a device of candle's: uploaded one after the other, and all of them kept.

use std::{collections::BTreeMap, io, sync::Arc};

use candle_core::{DType, Device, Tensor};
use lime_model::{BlockLayout, TensorRole};
use lime_plan::{Block, Bytes, DeviceSteps, Format};

use super::candle_type;
use crate::{
    engine_error::EngineError,
    loader::LoadOptions,
    read_from::ReadFrom,
    residency::{Blocks, Verified},
    weights::{BlockSource, HostBlock, Pinned, WeightSource, load_pinned, load_stored},
};

/// Opens the device that candle computes on: the CPU, or a GPU of a build with the feature `cuda`.
pub(crate) fn candle_device(gpu: Option<usize>) -> Result<Device, EngineError> {
    match gpu {
        None => Ok(Device::Cpu),
        Some(index) => Ok(Device::new_cuda(index)?),
    }
}

/// A block's tensors on the device, in the dtype of the file.
#[derive(Clone, Debug)]
pub(crate) struct DeviceBlock {
    tensors: Arc<Vec<(TensorRole, Tensor)>>,
}

impl DeviceBlock {
    /// Copies a block to the device.
    pub(crate) fn upload(host: &HostBlock, device: &Device) -> Result<Self, EngineError> {
        let tensors = host.entries().iter().map(|entry| {
            let tensor =
                Tensor::from_raw_buffer(host.bytes(entry), candle_format(entry.format)?, &entry.shape, device)?;
            Ok((entry.role, tensor))
        });
        Ok(Self { tensors: Arc::new(tensors.collect::<Result<_, EngineError>>()?) })
    }

    pub(super) fn find(&self, role: TensorRole) -> Option<&Tensor> {
        self.tensors.iter().find(|(held, _)| *held == role).map(|(_, tensor)| tensor)
    }

    pub(in crate::backend) fn tensor(&self, role: TensorRole) -> &Tensor {
        self.find(role).expect("a layer asks its own block")
    }

    /// Whether two blocks of one layout hold the same numbers.
    fn is_same(&self, other: &Self) -> Result<bool, EngineError> {
        for ((_, one), (_, other)) in self.tensors.iter().zip(other.tensors.iter()) {
            // Compared as f32, which holds every number of the others; a NaN differs from itself, and no weight is one.
            let differ = one.to_dtype(DType::F32)?.ne(&other.to_dtype(DType::F32)?)?;
            if differ.to_dtype(DType::F32)?.max_all()?.to_scalar::<f32>()? != 0.0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The type of candle's that holds a format's bytes as they are.
pub(super) fn candle_format(format: Format) -> Result<DType, EngineError> {
    format.element().map(candle_type).ok_or(EngineError::CandleFormat { format })
}

/// Every block of a device of the plan, on a device of candle's.
pub(crate) struct Uploaded {
    blocks: Pinned<DeviceBlock>,
    layouts: BTreeMap<Block, BlockLayout>,
    bytes: Bytes,
    steps: DeviceSteps,
    /// The store that they came from, where it was one.
    read_from: Option<ReadFrom>,
    device: Device,
}

impl Uploaded {
    /// Reads the blocks and copies them to `device`. Refuses formats that candle does not compute with before anything is read.
    pub(crate) fn load(
        source: &WeightSource<'_>,
        layouts: Vec<(Block, BlockLayout)>,
        steps: DeviceSteps,
        device: &Device,
        options: LoadOptions,
        progress: &mut dyn FnMut(Bytes, Bytes),
    ) -> Result<Self, EngineError> {
        let formats = layouts.iter().flat_map(|(_, layout)| &layout.entries).map(|entry| entry.format);
        formats.map(candle_format).try_for_each(|ty| ty.map(drop))?;
        let read_from = source.read_from();
        // A store's files hold whole blocks, a folder's the tensors alone.
        let to_read = |layout: &BlockLayout| match read_from {
            Some(_) => Bytes(layout.bytes),
            None => layout.entries.iter().map(|entry| Bytes(entry.bytes)).sum(),
        };
        let total: Bytes = layouts.iter().map(|(_, layout)| to_read(layout)).sum();
        let (mut before, mut uploaded) = (Bytes::ZERO, Vec::with_capacity(layouts.len()));
        for (block, layout) in &layouts {
            let mut report = |loaded, _| progress(before + loaded, total);
            let host = load_pinned(source, vec![(*block, layout.clone())], options, &mut report)?;
            for (block, host) in &host.blocks {
                uploaded.push((*block, DeviceBlock::upload(host, device)?));
            }
            before += to_read(layout);
        }
        let bytes = layouts.iter().map(|(_, layout)| Bytes(layout.bytes)).sum();
        let (blocks, layouts) = (Pinned::from_iter(uploaded), layouts.into_iter().collect());
        Ok(Self { blocks, layouts, bytes, steps, read_from, device: device.clone() })
    }
}

impl BlockSource for Uploaded {
    type Weights = DeviceBlock;

    fn block(&mut self, block: Block) -> Result<DeviceBlock, EngineError> {
        self.blocks.block(block).map_err(|fault| match self.layouts.contains_key(&block) {
            true => EngineError::NotStored { block, source: io::Error::other("it could not be read again") },
            false => fault,
        })
    }
}

impl Blocks for Uploaded {
    fn steps(&self) -> &DeviceSteps {
        &self.steps
    }

    fn keeps(&self, block: Block) -> bool {
        self.layouts.contains_key(&block)
    }

    fn pinned_bytes(&self) -> Bytes {
        self.bytes
    }

    fn verify(&mut self) -> Result<Verified, EngineError> {
        let mut verified = Verified::default();
        let Some(from) = &self.read_from else { return Ok(verified) };
        for (block, layout) in &self.layouts {
            let file = from.locate(*block, layout)?;
            from.reader.forget(&file);
            let read = load_stored(from, vec![(*block, layout.clone())], LoadOptions::default(), &mut |_, _| {});
            // Nothing is computed with a block of which nobody knows whether it is whole.
            let read = read.inspect_err(|_| self.blocks.forget(*block))?;
            verified.compared += 1;
            for (block, host) in &read.blocks {
                let stored = DeviceBlock::upload(host, &self.device)?;
                let same = self.blocks.block(*block).ok().map(|held| held.is_same(&stored)).transpose()?;
                if same != Some(true) {
                    tracing::warn!(%block, "a block on the device is not what was copied to it, it is copied again");
                    self.blocks.keep(*block, stored);
                    verified.read_again += 1;
                }
            }
        }
        Ok(verified)
    }
}
