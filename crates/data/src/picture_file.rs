//! From the name of a picture, as somebody's file has it, to a file below a folder.

use std::path::{Component, Path, PathBuf};

/// What is wrong with a name that would leave its folder.
const LEAVES: &str = "would leave the images folder; write a path relative to it";

/// Whether a name is that of a file below the folder it is joined to, on this operating system.
///
/// # Errors
/// What is wrong with it, and how to mend it.
pub fn check_picture_name(name: &str) -> Result<(), &'static str> {
    let stays = |name: &str| {
        let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        Path::new(name).components().all(plain)
    };
    match name {
        _ if name.trim().is_empty() => {
            Err("is empty; leave the field out, or write null, where there is no picture")
        }
        _ if ["http://", "https://", "data:"]
            .iter()
            .any(|scheme| name.starts_with(scheme)) =>
        {
            Err("is an address; save the picture as a file and write its path")
        }
        _ if name.contains('\0') || !stays(name) || !stays(&slashed(name)) => Err(LEAVES),
        _ => Ok(()),
    }
}

/// The file that a checked name means below `folder`: as it is written, or with `/` in the place of
/// `\`, as Windows writes it, where only that file is there.
pub fn picture_file(folder: &Path, name: &str) -> PathBuf {
    let written = folder.join(name);
    let other = slashed(name);
    if other != name && !written.is_file() {
        let file = folder.join(other);
        if file.is_file() {
            return file;
        }
    }
    written
}

fn slashed(name: &str) -> String {
    name.replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_systems_permit_are_found() {
        let dir = tempfile::tempdir().expect("temporary folder");
        std::fs::create_dir(dir.path().join("photos")).expect("folder");
        for name in ["2024-01-01 10:20:30.png", "photos/a.png", "b\\c.png"] {
            std::fs::write(dir.path().join(name), "x").expect("write");
            assert_eq!(check_picture_name(name), Ok(()));
            assert_eq!(picture_file(dir.path(), name), dir.path().join(name));
        }
        assert_eq!(check_picture_name("photos\\a.png"), Ok(()));
        let found = picture_file(dir.path(), "photos\\a.png");
        assert_eq!(found, dir.path().join("photos/a.png"));
        assert!(picture_file(dir.path(), "photos\\b.png").ends_with("photos\\b.png"));
    }

    #[test]
    fn what_is_no_name_is_called_what_it_is() {
        for (name, said) in [
            ("", "is empty; leave the field out"),
            (" ", "is empty"),
            ("../a.png", "would leave the images folder"),
            ("a/../../b.png", "would leave"),
            ("..\\..\\b.png", "would leave"),
            ("/etc/a.png", "would leave"),
            ("\\\\server\\a.png", "would leave"),
            ("a\0.png", "would leave"),
            ("https://example.org/a.png", "is an address"),
            ("data:image/png;base64,AA", "is an address"),
        ] {
            let problem = check_picture_name(name).expect_err(name);
            assert!(problem.starts_with(said), "{name}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn no_name_reaches_outside_its_folder(name in r"(\.\.|\.|/|a|b\\|\\|C:|é|\x00|[a-z.]{1,3}|/\.\./){1,6}") {
            let root = Path::new("/root/images");
            if check_picture_name(&name).is_ok() {
                for name in [name.clone(), slashed(&name)] {
                    let joined = root.join(&name);
                    prop_assert!(joined.starts_with(root));
                    prop_assert!(!joined.components().any(|part| part == Component::ParentDir));
                }
            }
        }
    }
}
