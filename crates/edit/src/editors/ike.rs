//! IKE: the new fact and examples of its use stand in the prompt; no weight changes.
//!
//! Zheng et al. 2023 (*Can We Edit Factual Knowledge by In-Context Learning?*) for the idea and
//! the variant `original`, Wang et al. 2023 (EasyEdit) for the variant `easyedit`;
//! `spec/editors.md` 3.2.

mod corpus;

use std::path::PathBuf;
use std::sync::Arc;

use debias_core::demonstration::{Fact, copy};
use debias_core::{Preset, Record};
use debias_model::{Change, Encoder, Model, open_folder};
use serde::{Deserialize, Serialize};

use self::corpus::{Corpus, Variant};
use crate::card::{Card, Footprint};
use crate::context::{Context, Demonstration, Manner, Multi, Shortened, Stated};
use crate::edit::{Edit, Touches};
use crate::editor::{Claims, Ctx, Editor, Learns, Lessons, Prepared, Request, check_requests};
use crate::embedding::TextEmbedding;
use crate::error::{Error, Result};
use crate::settings::Settings;

/// In-context knowledge editing.
pub struct Ike;

const ID: &str = "ike";

static CARD: Card = Card {
    id: ID,
    version: 1,
    title: "in-context editing: the new fact stands in the prompt",
    summary: "Writes demonstrations from the training split that lie near the request, the request \
              as one more of them, and the new fact in front of every prompt, related or not. The \
              edit target thereby stands in the prompt, by design. Without a sentence encoder, \
              texts are compared by the mean of the model's own input embeddings.",
    paper: "Zheng et al. 2023 (IKE); Wang et al. 2023 (EasyEdit)",
    equation: "p_e(y | image, x) = p_θ(y | image, [c_1 … c_k] [c_own] \"New Fact: \" f \"\\nPrompt: \" x)",
    touches: Footprint::of(&[Touches::Input], "text in front of every prompt"),
    cost: "per edit one sentence embedding and a search; per record four long prefixes, each read once",
    failures: &[
        "no gate: unrelated questions are asked behind the fact as well, which costs locality",
        "retrieval reads text only, and demonstrations carry no pictures",
        "a model that never learnt from its context copies nothing from it",
        "where the positions do not suffice, demonstrations are left out from the front, for each \
         prompt by itself; the result says how many",
        "with several facts, requests of the same prompt cannot be told apart: the earlier one is \
         stated",
        "locality compares only the tokens at the end that both rows have in common",
    ],
    settings: &[
        (
            "k",
            "number of demonstrations, the request's own not counted",
        ),
        (
            "encoder",
            "Hugging Face folder of a sentence encoder; null for the model's own input embeddings",
        ),
        (
            "variant",
            "easyedit (the k nearest of the corpus's copy, update and retain sentences, nearest \
             first) or original (the k nearest records, one sentence each in the ratio 4:12:16 of \
             copy, update and retain, shuffled by the seed; nearest last)",
        ),
        (
            "corpus",
            "where demonstrations come from: train, without records of the request's own group",
        ),
        (
            "fact",
            "whether the new fact and its own copy sentence are stated",
        ),
        (
            "multi",
            "several facts: nearest (a prompt is asked behind the nearest fact and its \
             demonstrations) or concat_all (behind all of them, the nearest last)",
        ),
        (
            "cap",
            "most positions of a row beyond which demonstrations are left out from the front; null \
             for those of the model",
        ),
    ],
};

/// Settings of IKE.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Config {
    k: usize,
    encoder: Option<PathBuf>,
    variant: Variant,
    corpus: Origin,
    fact: bool,
    multi: Multi,
    cap: Option<usize>,
}

/// Where demonstrations come from.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Origin {
    Train,
}

impl Default for Config {
    /// The settings of EasyEdit, which the paper's rows were made with. Its examples draw on the
    /// evaluation split; that cannot be asked for.
    fn default() -> Self {
        Self {
            k: 32,
            encoder: None,
            variant: Variant::Easyedit,
            corpus: Origin::Train,
            fact: true,
            multi: Multi::Nearest,
            cap: None,
        }
    }
}

impl Editor for Ike {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn defaults(&self, _preset: Preset) -> Settings {
        Settings::of(&Config::default())
    }

    fn inputs(&self, settings: &Settings) -> Result<Vec<PathBuf>> {
        let config: Config = settings.config(ID)?;
        Ok(config.encoder.into_iter().collect())
    }

    fn learns(&self, settings: &Settings) -> Result<Learns> {
        let config: Config = settings.config(ID)?;
        Ok(match config.k {
            0 => Learns::Nothing,
            _ => Learns::Examples,
        })
    }

    fn claims(&self, settings: &Settings) -> Result<Claims> {
        let config: Config = settings.config(ID)?;
        Ok(Claims {
            random: match config.variant {
                Variant::Original => "the order of the roles of demonstrations",
                Variant::Easyedit => "",
            },
            ..Claims::default()
        })
    }

    fn identity(&self, settings: &Settings) -> Option<Settings> {
        Some(settings.clone().with("k", 0).with("fact", false))
    }

    fn check(&self, _model: &Model, settings: &Settings) -> Result<()> {
        let config: Config = settings.config(ID)?;
        let refuse = |key: &str, problem: String| {
            Err(Error::Core(debias_core::Error::Setting {
                key: format!("{ID}.{key}"),
                problem,
            }))
        };
        if config.cap == Some(0) {
            return refuse("cap", "must be at least 1, or null".into());
        }
        match &config.encoder {
            Some(folder) if !Encoder::knows(&open_folder(folder)?)? => refuse(
                "encoder",
                format!(
                    "{} holds no encoder; give the folder of a sentence encoder such as \
                     all-MiniLM-L6-v2",
                    folder.display()
                ),
            ),
            _ => Ok(()),
        }
    }

    fn prepare<'m>(
        &self,
        model: &'m Model,
        lessons: &Lessons,
        ctx: &Ctx,
    ) -> Result<Box<dyn Prepared + 'm>> {
        self.check(model, ctx.settings)?;
        let config: Config = ctx.settings.config(ID)?;
        let embedding = TextEmbedding::of(model, config.encoder.as_deref())?;
        let corpus = match config.k {
            0 => Corpus::default(),
            _ if lessons.train.records().is_empty() => {
                return Err(Error::NothingToLearn { editor: ID });
            }
            _ => Corpus::read(model, lessons.train, config.variant, &embedding)?,
        };
        Ok(Box::new(Ready {
            model,
            k: config.k,
            fact: config.fact,
            seed: ctx.seed,
            corpus,
            manner: Arc::new(Manner {
                multi: config.multi,
                cap: config.cap,
                embedding,
                shortened: Shortened::default(),
            }),
        }))
    }
}

/// IKE with its corpus embedded.
struct Ready<'m> {
    model: &'m Model,
    k: usize,
    fact: bool,
    seed: u64,
    corpus: Corpus,
    manner: Arc<Manner>,
}

impl Ready<'_> {
    /// The context of one request; which answer will be scored is not known here.
    fn context(&self, request: &Request) -> Result<Context> {
        let record = &request.record;
        let fact = Fact {
            prompt: &request.prompt,
            target: &record.y_less,
        };
        let own = Demonstration::new(self.model, copy(fact))?;
        let mut demonstrations = match self.k {
            0 => Vec::new(),
            k => {
                let query = self.manner.embedding.one(&own.text)?;
                self.corpus.demonstrations(record, &query, k, self.seed)
            }
        };
        if self.fact {
            demonstrations.push(Arc::new(own));
        }
        let key = self.manner.embedding.one(&request.prompt)?;
        let stated = Stated::new(demonstrations, self.fact.then_some(fact), key);
        Ok(Context::stating(stated, self.manner.clone()))
    }
}

impl Prepared for Ready<'_> {
    fn edit_each(&self, requests: &[Request], _start: &Change) -> Result<Vec<Arc<Edit>>> {
        check_requests(self.model, requests)?;
        requests
            .iter()
            .map(|request| Ok(Arc::new(Edit::from(self.context(request)?))))
            .collect()
    }

    fn remarks(&self) -> Vec<String> {
        let target = self
            .fact
            .then(|| "the edit target stands in every prompt, by design".to_owned());
        let notes = [
            target,
            self.manner.embedding.note(),
            self.manner.shortened.remark(),
        ];
        let notes = notes.into_iter().flatten();
        notes.map(|note| format!("{ID}: {note}")).collect()
    }
}

/// Whether demonstrations from `id` of `group` would give the request away.
fn kin(record: &Record, id: &str, group: &str) -> bool {
    record.id == id || (!group.is_empty() && record.group == group)
}
