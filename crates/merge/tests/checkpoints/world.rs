//! Small checkpoints as people have them, made for a test and merged there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use debias_merge::{Error, Folders, Options, Planned, Recipe, Unwatched};
use debias_weights::{Checkpoint, Tensor, write_folder};
use serde_json::{Value, json};

use super::support;

pub const TABLE: &str = "model.embed_tokens.weight";
pub const HEAD: &str = "lm_head.weight";
pub const TIES: &str = "merge_method: task_arithmetic\nbase_model: base\nmodels:\n- model: a\n  parameters: {weight: 0.5}\n";

pub type Tensors = BTreeMap<String, Tensor>;

/// Reproducible numbers of a shape.
pub fn tensor(shape: &[usize], salt: usize) -> Tensor {
    let len = shape.iter().product::<usize>();
    let value = |i: usize| ((i * 37 + salt * 11) % 23) as f32 / 23.0 - 0.4;
    Tensor {
        shape: shape.to_vec(),
        values: (0..len).map(value).collect(),
    }
}

pub fn tensors(shapes: &[(&str, &[usize])], salt: usize) -> Tensors {
    let each = shapes.iter().enumerate();
    each.map(|(at, (name, shape))| ((*name).to_owned(), tensor(shape, salt + at)))
        .collect()
}

/// A small LLaMA of so many layers, with or without a head.
pub fn llama(layers: usize, head: bool, salt: usize) -> Tensors {
    let mut all = tensors(&[(TABLE, &[6, 4]), ("model.norm.weight", &[4])], salt);
    if head {
        all.insert(HEAD.to_owned(), tensor(&[6, 4], salt + 5));
    }
    for layer in 0..layers {
        for part in ["mlp.up_proj", "self_attn.q_proj"] {
            let name = format!("model.layers.{layer}.{part}.weight");
            all.insert(name, tensor(&[4, 4], salt + layer));
        }
    }
    all
}

/// A folder of models.
pub struct World(tempfile::TempDir);

impl World {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn add(&self, name: &str, config: &Value, tensors: &Tensors) -> &Self {
        let dir = self.path().join(name);
        let _ = fs::remove_dir_all(&dir);
        let config = ("config.json".to_owned(), config.to_string().into_bytes());
        write_folder(&dir, &[config], tensors, false).expect("a checkpoint");
        self
    }

    pub fn file(&self, path: &str, content: &str) -> &Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
        self
    }

    pub fn tokenizer(&self, model: &str, tokens: &[&str]) -> &Self {
        let ids: BTreeMap<_, _> = tokens.iter().enumerate().map(|(id, t)| (*t, id)).collect();
        let file = json!({"added_tokens": [], "model": {"type": "WordLevel", "vocab": ids}});
        self.file(&format!("{model}/tokenizer.json"), &file.to_string())
    }

    pub fn adapter(&self, name: &str, tensors: &Tensors) -> &Self {
        let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4});
        let _ = fs::remove_dir_all(self.path().join(name));
        support::adapter(&self.path().join(name), &config, tensors);
        self
    }

    /// The merged folder, and what was said.
    pub fn merge(&self, yaml: &str) -> Result<(Checkpoint, Vec<String>), Error> {
        let library = Folders::below([self.path().to_owned()]);
        let recipe = Recipe::parse(yaml, "recipe.yaml", &|name| library.has(name))?;
        let planned = Planned::new(recipe, &library, Options::default())?;
        let out = tempfile::tempdir_in(self.path()).expect("a folder").keep();
        let out = out.join("merged");
        planned.write(&out, false, &Unwatched)?;
        let notes = planned.notes().map(str::to_owned).collect();
        Ok((Checkpoint::open(&out).expect("our own folder"), notes))
    }

    pub fn merged(&self, yaml: &str) -> (Checkpoint, Vec<String>) {
        self.merge(yaml)
            .unwrap_or_else(|error| panic!("{yaml}: {error}"))
    }

    pub fn refused(&self, yaml: &str) -> String {
        let error = self.merge(yaml).err().unwrap_or_else(|| panic!("{yaml}"));
        let error = error.to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }
}

pub fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let shape = checkpoint.info(name).expect(name).shape.clone();
    checkpoint.f32(name, &shape).expect(name)
}

pub fn config(checkpoint: &Checkpoint) -> Value {
    checkpoint.json("config.json").expect("a configuration")
}

/// The tensor half way from one to another.
pub fn check_middle(out: &Checkpoint, name: &str, base: &Tensor, other: &Tensor) {
    let got = values(out, name);
    let want = base
        .values
        .iter()
        .zip(&other.values)
        .map(|(b, a)| b + 0.5 * (a - b));
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-6, "{name}: {got} for {want}");
    }
}
