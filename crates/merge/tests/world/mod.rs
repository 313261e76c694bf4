//! A folder of small checkpoints whose numbers are generated, with one tensor of several chunks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use debias_merge::{Error, Folders, Options, Planned, Recipe, Unwatched};
use debias_weights::{Checkpoint, Tensor, write_folder};

/// The tensor of several chunks.
pub const BIG: &str = "lm_head.weight";
pub const ROWS: usize = 150;
pub const COLUMNS: usize = 1000;

/// Models `base`, `a`, `b`, `zero`, `minus` (the base's negative) and two copies of the base.
pub struct World(tempfile::TempDir);

/// A spread of reproducible numbers around zero.
fn noise(salt: u64, i: usize) -> f32 {
    let mut z = (salt << 40)
        .wrapping_add(i as u64)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^= z >> 29;
    ((z >> 40) as f32 / (1 << 24) as f32 - 0.5) * (1.0 + (z & 7) as f32)
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let world = Self(dir);
        let step = |salt: u64| move |base: f32, i: usize| base + 0.05 * noise(salt, i);
        world.add("base", |base, _| base);
        world.add("base_twin", |base, _| base);
        world.add("base_triplet", |base, _| base);
        world.add("a", step(1));
        world.add("b", step(2));
        world.add("zero", |_, _| 0.0);
        world.add("minus", |base, _| -base);
        world
    }

    /// Adds a model whose values are made from the base's.
    pub fn add(&self, model: &str, value: impl Fn(f32, usize) -> f32) {
        let mut tensors = BTreeMap::new();
        for (name, shape) in [
            (BIG, vec![ROWS, COLUMNS]),
            ("model.embed_tokens.weight", vec![ROWS, 40]),
            ("model.norm.weight", vec![1000]),
            ("model.layers.0.mlp.up_proj.weight", vec![70, 40]),
            ("model.layers.1.mlp.up_proj.weight", vec![70, 40]),
            ("model.layers.0.conv.weight", vec![6, 5, 3, 3]),
        ] {
            let len: usize = shape.iter().product();
            let values = (0..len).map(|i| value(noise(7, i), i)).collect();
            tensors.insert(name.to_owned(), Tensor { shape, values });
        }
        let config = (
            "config.json".to_owned(),
            br#"{"model_type": "llama", "num_hidden_layers": 2, "torch_dtype": "float32"}"#
                .to_vec(),
        );
        write_folder(&self.path(model), &[config], &tensors, false).expect("a checkpoint");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn model(&self, name: &str) -> Checkpoint {
        Checkpoint::open(&self.path(name)).expect(name)
    }

    /// Carries out a recipe.
    pub fn merge(
        &self,
        yaml: &str,
        change: impl FnOnce(&mut Options),
    ) -> Result<Checkpoint, Error> {
        let library = Folders::below([self.0.path().to_owned()]);
        let recipe = Recipe::parse(yaml, "recipe.yaml", &|name| library.has(name))?;
        let mut options = Options::default();
        change(&mut options);
        let out = tempfile::tempdir_in(self.0.path())
            .expect("a folder")
            .keep()
            .join("merged");
        Planned::new(recipe, &library, options)?.write(&out, false, &Unwatched)?;
        Ok(Checkpoint::open(&out).expect("our own folder"))
    }
}

pub fn bytes_of(checkpoint: &Checkpoint, name: &str) -> Vec<u8> {
    checkpoint.raw(name).expect(name).bytes.to_vec()
}

pub fn values_of(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let bytes = bytes_of(checkpoint, name);
    let values = bytes.as_chunks::<4>().0.iter();
    values.map(|b| f32::from_le_bytes(*b)).collect()
}
