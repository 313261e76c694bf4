//! The vocabulary of the output: its tokenizer files, and the rows of its token table and head.

use std::sync::Arc;

use super::jobs::{Job, Work};
use super::open::Opened;
use super::tied;
use crate::error::{Error, Result};
use crate::library::{Library, Location};
use crate::recipe::Recipe;
use crate::stream::{Input, Stored, VocabularyRow, VocabularyRows};
use crate::vocabulary::{
    self, Speaker, TokenSource, Vocabulary, chat_template, copied, own_template, put_chat_template,
    unite,
};

/// The vocabulary that a recipe asks for; nothing where it leaves it to the donor.
pub(crate) struct Spoken {
    /// Rows of every model's matrices, where they change.
    pub vocabulary: Option<Vocabulary>,
    /// Tokenizer files of the output.
    pub files: Vec<(String, Vec<u8>)>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

impl Spoken {
    /// `voice` is the model whose tokenizer the output has, unless the recipe asks for another.
    pub(crate) fn new(
        recipe: &Recipe,
        models: &[Opened],
        (donor, voice): (usize, usize),
        library: &dyn Library,
    ) -> Result<Self> {
        let speakers: Vec<Speaker> = models.iter().map(speaker).collect();
        let base = recipe.base.is_some().then_some(donor);
        let vocabulary = match &recipe.tokenizer {
            None => None,
            Some(setting) => {
                let outside = match &setting.source {
                    TokenSource::Model(name) => outside(name, models, library)?,
                    TokenSource::Union | TokenSource::Base => None,
                };
                let outside = outside.as_ref().map(|(name, open)| (name.as_str(), open));
                Some(unite(setting, &speakers, base, outside)?)
            }
        };
        let mut files = match &vocabulary {
            Some(vocabulary) => vocabulary.files.clone(),
            None => copied(models[voice].voice())?,
        };
        let notes = match &vocabulary {
            Some(vocabulary) => vocabulary.notes.clone(),
            None => vocabulary::renumbered(&speakers, voice),
        };
        // An adapter's tokenizer may leave the template to its base.
        if let (Some(checkpoint), None) = (models[voice].beneath_voice(), &vocabulary)
            && own_template(&speakers[voice])?.is_none()
            && let Some(template) = own_template(&Speaker {
                checkpoint,
                ..speakers[voice]
            })?
        {
            put_chat_template(&mut files, &template, &models[voice].label)?;
        }
        if let Some(setting) = &recipe.chat_template
            && let Some(template) = chat_template(setting, &speakers)?
        {
            put_chat_template(&mut files, &template, &models[donor].label)?;
        }
        Ok(Self {
            vocabulary,
            files,
            notes,
        })
    }
}

/// The model whose rows of tokens the output has: the donor, unless it is only what adapters lie on.
pub(crate) fn voice(jobs: &[Job], donor: usize) -> usize {
    let table = jobs.iter().find(|job| tied::is_token_table(&job.name));
    let inputs = match table.map(|job| &job.work) {
        Some(Work::Copy { model, .. }) => vec![*model],
        Some(Work::Merge { inputs, .. }) => inputs.iter().map(|input| input.model).collect(),
        None => Vec::new(),
    };
    match inputs.first() {
        Some(first) if !inputs.contains(&donor) => *first,
        _ => donor,
    }
}

fn speaker(model: &Opened) -> Speaker<'_> {
    Speaker {
        label: &model.label,
        checkpoint: model.voice(),
        rows: model.vocabulary().unwrap_or(0),
    }
}

/// The folder whose tokenizer is taken although it is not merged.
fn outside(
    name: &str,
    models: &[Opened],
    library: &dyn Library,
) -> Result<Option<(String, debias_weights::Checkpoint)>> {
    if models.iter().any(|model| model.label == name) {
        return Ok(None);
    }
    match library.locate(name) {
        Some(Location::Folder(dir)) => {
            let open = debias_weights::Checkpoint::bare(&dir)?;
            Ok(Some((name.to_owned(), open)))
        }
        Some(Location::Open(open)) => Ok(Some((name.to_owned(), open))),
        None => Err(Error::Tokenizer {
            model: name.to_owned(),
            problem: "there is no such folder; tokenizer_source is union, base or a model's folder"
                .to_owned(),
        }),
    }
}

/// Which tokens explain that the matrices of two models differ in their rows.
pub(crate) fn difference(models: &[Opened], a: usize, b: usize) -> Option<String> {
    vocabulary::difference(&speaker(&models[a]), &speaker(&models[b]))
}

/// The matrix `name` of one model with the rows of the common vocabulary.
pub(crate) fn with_rows<'a>(
    models: &'a [Opened],
    vocabulary: &Vocabulary,
    model: usize,
    name: &str,
) -> Result<Input<'a>> {
    let own = models[model].input(name)?;
    let Some(rows) = &vocabulary.rows[model] else {
        return Ok(own);
    };
    let Input::Stored(own) = own else {
        return Err(Error::Model {
            model: models[model].label.clone(),
            problem: format!(
                "its adapter changes the vocabulary tensor `{name}`, which cannot be given other rows at the same time; merge adapter and base first"
            ),
        });
    };
    let found = models[model]
        .info(name)
        .and_then(|info| info.shape.first().copied());
    let known = models[model].vocabulary();
    if found != known {
        return Err(Error::Tokenizer {
            model: models[model].label.clone(),
            problem: format!(
                "`{name}` has {} rows, its token table {}; they cannot be given a common order",
                found.unwrap_or(0),
                known.unwrap_or(0)
            ),
        });
    }
    let others: Result<Vec<Stored>> = models
        .iter()
        .map(|other| matrix(other, name, own))
        .collect();
    let columns = models[model]
        .info(name)
        .map_or(1, |info| info.shape[1..].iter().product());
    let mut rows = VocabularyRows {
        rows: Arc::clone(rows),
        others: Arc::new(others?),
        columns,
        padding: Arc::default(),
    };
    if rows.rows.contains(&VocabularyRow::Padding) {
        rows.padding = Arc::new(rows.mean_row(&own));
    }
    Ok(Input::Rows(own, rows))
}

/// The same matrix of another model; a model without it lends no row, so that any will do.
fn matrix<'a>(other: &'a Opened, name: &str, own: Stored<'a>) -> Result<Stored<'a>> {
    let Some(found) = other.stand_in(name) else {
        return Ok(own);
    };
    match other.input(found)? {
        Input::Stored(stored) => Ok(stored),
        _ => Err(Error::Model {
            model: other.label.clone(),
            problem: format!(
                "its adapter changes the vocabulary tensor `{found}`, whose rows other models need; merge adapter and base first"
            ),
        }),
    }
}
