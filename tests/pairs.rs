//! The real pictures: the main suite on PAIRS, model-specific targets and all.

mod support;

use support::{bench, folder, json, real_data, stderr, stdout};

#[test]
fn the_suite_runs_on_real_photographs() {
    let Some(data) = real_data() else { return };
    let dir = folder();
    let run = |more: &[&str]| {
        bench()
            .args([
                "run",
                "--suite",
                "debias-edit",
                "--dataset",
                "pairs",
                "--limit",
                "6",
            ])
            .args(["--editor", "nothing", "--editor", "ft-l"])
            .args(more)
            .env("DEBIAS_BENCH_DATA", &data)
            .current_dir(dir.path())
            .output()
            .expect("bench starts")
    };
    let object = json(&run(&["--json"]));
    let cells = object["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 4, "two models, two editors, questions only");
    for cell in cells {
        assert_eq!(
            (&cell["task"], &cell["dataset"]),
            (&"vqa".into(), &"pairs".into())
        );
        assert_eq!((&cell["status"], &cell["n"]), (&"done".into(), &6.into()));
    }
    assert_eq!(cells[0]["metrics"]["reliability"]["value"], 0.0);
    assert_eq!(cells[0]["metrics"]["m_locality"]["value"], 1.0);

    // The same command without --json only prints: everything is stored.
    let table = run(&[]);
    assert_eq!(stderr(&table), "");
    let text = stdout(&table);
    assert!(text.contains("never saw a photograph"), "{text}");
    assert!(text.contains("stand-in"), "{text}");
    assert!(text.contains("pairs has no ic records"), "{text}");
}

#[test]
fn a_clone_is_built_and_then_run() {
    let Some(data) = real_data() else { return };
    let dir = folder();
    let clone = dir.path().join("PAIRS");
    copy_tree(&data.join("pairs/data"), &clone.join("data"));
    let run = |args: &[&str]| {
        bench()
            .args(args)
            .current_dir(dir.path())
            .output()
            .expect("starts")
    };
    let unbuilt = run(&[
        "run",
        "--suite",
        "debias-edit",
        "--dataset",
        "pairs",
        "--data",
        "pairs=PAIRS",
    ]);
    let error = stderr(&unbuilt);
    assert!(
        error.contains("bench data build pairs --from PAIRS --out DIR"),
        "{error}"
    );
    let built = json(&run(&[
        "data", "build", "pairs", "--from", "PAIRS", "--out", "built", "--json",
    ]));
    assert_eq!(built["counts"]["vqa"]["eval"], 156);
    assert!(
        built["remark"]
            .as_str()
            .expect("said")
            .contains("T-locality (stand-in)")
    );
    assert!(run(&["data", "check", "built"]).status.success());
    let args = [
        "run",
        "--suite",
        "debias-edit",
        "--dataset",
        "pairs",
        "--data",
        "pairs=built",
    ];
    let more = [
        "--editor",
        "nothing",
        "--limit",
        "2",
        "--model",
        "tiny-blip2",
        "--json",
    ];
    let cells = json(&run(&[&args[..], &more].concat()));
    assert_eq!(cells["cells"][0]["n"], 2);
    let generated = run(&[
        "data", "build", "toytown", "--from", "PAIRS", "--out", "town",
    ]);
    assert!(
        stderr(&generated).contains("leave --from away"),
        "{}",
        stderr(&generated)
    );
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("a new folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("readable").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            std::fs::write(&target, std::fs::read(&path).expect("read")).expect("written");
        }
    }
}
