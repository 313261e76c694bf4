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
