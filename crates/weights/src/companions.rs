//! What lies beside the weights: the small files of a folder, and what belongs to the model in
//! subfolders (packages that its code imports, further chat templates, the stages of a sentence
//! encoder).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::source::Source;

/// Deepest package in a package that is looked into.
const DEEPEST: usize = 4;

/// Where transformers keeps chat templates besides the first.
const TEMPLATES: &str = "additional_chat_templates";

/// A small file that belongs to a model: its path in the folder, parts joined by `/`, and content.
pub type Belonging = (String, Vec<u8>);

impl Checkpoint {
    /// Names of the regular files in the folder itself, sorted.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn files(&self) -> Result<Vec<String>> {
        match &self.source {
            Source::Memory { .. } => Ok(Vec::new()),
            Source::Embedded { files, .. } => {
                let mut names: Vec<_> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
                names.sort();
                Ok(names)
            }
            Source::Folder(dir) => Ok(listed(dir)?.0),
        }
    }

    /// What belongs to the model in subfolders: packages that the folder's Python files import
    /// relatively, further chat templates, and the stages that `modules.json` of a sentence
    /// encoder names.
    ///
    /// # Errors
    /// When one of these is there but cannot be read.
    pub fn belongings(&self) -> Result<Vec<Belonging>> {
        let mut found = Vec::new();
        for package in self.packages()? {
            self.gather(&package, 0, &|name| name.ends_with(".py"), &mut found)?;
        }
        self.gather(
            TEMPLATES,
            DEEPEST,
            &|name| name.ends_with(".jinja"),
            &mut found,
        )?;
        for stage in self.stages()? {
            self.gather(&stage, DEEPEST, &|name| !name.starts_with('.'), &mut found)?;
        }
        Ok(found)
    }

    /// First parts of the modules that Python files of the folder import from beside them.
    fn packages(&self) -> Result<BTreeSet<String>> {
        let mut packages = BTreeSet::new();
        for file in self.files()?.iter().filter(|file| file.ends_with(".py")) {
            let code = self.bytes(file)?;
            packages.extend(String::from_utf8_lossy(&code).lines().flat_map(imported));
        }
        Ok(packages)
    }

    /// Folders of the stages of a sentence encoder.
    fn stages(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Stage {
            #[serde(default)]
            path: String,
        }
        let stages: Option<Vec<Stage>> = self.json_if_present("modules.json").unwrap_or_default();
        let paths = stages
            .unwrap_or_default()
            .into_iter()
            .map(|stage| stage.path);
        Ok(paths.filter(|path| !path.is_empty()).collect())
    }

    /// Files of the subfolder `name`, and of those in it down to [`DEEPEST`]; nothing where there
    /// is no such folder.
    fn gather(
        &self,
        name: &str,
        depth: usize,
        wanted: &dyn Fn(&str) -> bool,
        found: &mut Vec<Belonging>,
    ) -> Result<()> {
        // A name that leaves the folder is no part of it.
        let Ok(Some(inside)) = self.subfolder(name) else {
            return Ok(());
        };
        let Source::Folder(dir) = &inside.source else {
            return Ok(());
        };
        let (files, folders) = listed(dir)?;
        for file in files.iter().filter(|file| wanted(file)) {
            let content = inside.bytes(file)?.into_owned();
            found.push((format!("{name}/{file}"), content));
        }
        if depth < DEEPEST {
            for folder in folders {
                let mut deeper = Vec::new();
                inside.gather(&folder, depth + 1, wanted, &mut deeper)?;
                let below = deeper.into_iter();
                found.extend(below.map(|(path, content)| (format!("{name}/{path}"), content)));
            }
        }
        Ok(())
    }
}

/// Regular files (also behind links, as in caches of downloads) and folders, both sorted.
fn listed(dir: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let name = entry.map_err(Error::io("read", dir))?.file_name();
        let path = dir.join(&name);
        // No file of a published model has another name.
        let Ok(name) = name.into_string() else {
            continue;
        };
        if path.is_file() {
            files.push(name);
        } else if path.is_dir() && !path.is_symlink() {
            folders.push(name);
        }
    }
    files.sort();
    folders.sort();
    Ok((files, folders))
}

/// First parts of the modules that a line of Python imports from beside its file.
fn imported(line: &str) -> Vec<String> {
    let Some(rest) = line.trim_start().strip_prefix("from ") else {
        return Vec::new();
    };
    let Some(module) = rest.trim_start().strip_prefix('.') else {
        return Vec::new();
    };
    let Some((module, names)) = module.split_once(" import ") else {
        return Vec::new();
    };
    let first = |module: &str| {
        let module = module.trim_matches(|c: char| c.is_whitespace() || "()\\".contains(c));
        let part = module.split(['.', ' ']).next().unwrap_or_default();
        (!part.is_empty()).then(|| part.to_owned())
    };
    match module.trim() {
        "" => names.split(',').filter_map(first).collect(),
        module => first(module).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_code_imports_from_beside_it_belongs_to_the_model() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |path: &str, content: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, content).expect("written");
        };
        write(
            "modeling_x.py",
            "import torch\nfrom .parts.attention import A\nfrom . import (tools, b)\nfrom ..up import c\n",
        );
        write("parts/attention.py", "");
        write("parts/deep/more.py", "");
        write("parts/notes.txt", "");
        write("tools/__init__.py", "");
        write("other/unrelated.py", "");
        write("additional_chat_templates/tool.jinja", "");
        write(
            "modules.json",
            r#"[{"path": ""}, {"path": "1_Pooling"}, {"path": "../up"}]"#,
        );
        write("1_Pooling/config.json", "{}");
        let checkpoint = Checkpoint::bare(dir.path()).expect("a folder");
        assert_eq!(
            checkpoint.files().expect("listed"),
            ["modeling_x.py", "modules.json"]
        );
        let found = checkpoint.belongings().expect("read");
        let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        let want = [
            "parts/attention.py",
            "parts/deep/more.py",
            "tools/__init__.py",
            "additional_chat_templates/tool.jinja",
            "1_Pooling/config.json",
        ];
        assert_eq!(paths, want);
    }
}
