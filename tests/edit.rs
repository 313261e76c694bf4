//! `bench edit` from outside: request files, bad input, training requests, saved checkpoints.

mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use support::{Tensors, assert_close, edit_json, folder, json as object, likelihoods, model_copy};
use support::{records, run_in, status, stderr, stdout, town_requests, write_requests};

/// Runs `bench edit` on `requests` as they are with tiny-blip2 and FT-L, or `nothing`.
fn edit(dir: &Path, requests: &[Value], more: &[&str]) -> Output {
    edit_with(dir, requests, &[&["--model", "tiny-blip2"], more].concat())
}

fn edit_with(dir: &Path, requests: &[Value], more: &[&str]) -> Output {
    let file = write_requests(dir, "vqa.json", requests);
    let mut args = vec!["edit"];
    args.extend(file.iter().map(String::as_str));
    let (control, flags): (Vec<&str>, Vec<&str>) =
        more.iter().partition(|flag| **flag == "nothing");
    let editor = control.first().copied().unwrap_or("ft-l");
    args.extend(["--set", "filter.contexts=0", "--editor", editor]);
    args.extend(flags);
    run_in(dir, &args)
}

fn vqa(n: usize) -> Vec<Value> {
    let mut requests = town_requests("vqa_eval.json");
    requests.truncate(n);
    requests
}

#[test]
fn the_object_and_the_table_are_those_of_a_run() {
    let dir = folder();
    let found = object(&edit(dir.path(), &vqa(3), &["--json"]));
    assert_eq!(
        (&found["suite"], &found["edition"]),
        (&Value::Null, &Value::Null)
    );
    let cell = &found["cells"][0];
    assert_eq!((&cell["editor"], &cell["n"]), (&"ft-l".into(), &3.into()));
    let lines = records(dir.path(), &found, 0);
    let ids: Vec<_> = lines.iter().map(|line| line["id"].clone()).collect();
    let given: Vec<_> = vqa(3).iter().map(|request| request["id"].clone()).collect();
    assert_eq!(ids, given);
    for line in &lines {
        assert_ne!(likelihoods(&line["before"]), likelihoods(&line["after"]));
    }
    let run = dir.path().join(found["run"].as_str().expect("a folder"));
    assert!(run.join("run.json").is_file() && run.join("chart.svg").is_file());
    let table = stdout(&edit(dir.path(), &vqa(3), &[]));
    assert!(table.contains("  ft-l         3"), "{table}");
    assert!(table.contains("Results: results/edit-"), "{table}");
}

#[test]
fn a_request_scores_as_in_its_dataset() {
    let dir = folder();
    let all = [
        "--editor",
        "ft-l",
        "--model",
        "tiny-blip2",
        "--task",
        "vqa",
        "--json",
    ];
    let suite = ["run", "--suite", "debias-edit", "--limit", "16"];
    let run = object(&run_in(dir.path(), &[&suite[..], &all].concat()));
    let lines = records(dir.path(), &run, 0);
    let admitted: Vec<Value> = vqa(160)
        .into_iter()
        .filter(|request| lines.iter().any(|line| line["id"] == request["id"]))
        .collect();
    let found = object(&edit(dir.path(), &admitted, &["--json"]));
    assert_eq!(records(dir.path(), &found, 0), lines);
}

#[test]
fn easyedits_own_keys_suffice() {
    let dir = folder();
    let kept = [
        "src",
        "pred",
        "alt",
        "rephrase",
        "image",
        "image_rephrase",
        "loc",
        "loc_ans",
        "m_loc",
        "m_loc_q",
        "m_loc_a",
    ];
    let mut requests = vqa(2);
    for request in &mut requests {
        let map = request.as_object_mut().expect("an object");
        map.retain(|key, _| kept.contains(&key.as_str()));
    }
    let found = object(&edit(dir.path(), &requests, &["--json"]));
    let of = |found: &Value| -> Vec<Vec<f64>> {
        let lines = records(dir.path(), found, 0);
        lines
            .iter()
            .map(|line| likelihoods(&line["after"]))
            .collect()
    };
    let ours = object(&edit(dir.path(), &vqa(2), &["--json"]));
    assert_eq!(of(&found), of(&ours));
    // A file's name says no task here: an unrelated question of a picture makes it VQA.
    let file = write_requests(dir.path(), "mine.json", &requests);
    let mut args = vec!["edit", "--model", "tiny-blip2", "--editor", "nothing"];
    args.extend(file.iter().map(String::as_str));
    let guessed = [&args[..], &["--json"]].concat();
    let guessed = object(&run_in(dir.path(), &guessed));
    assert_eq!(guessed["cells"][0]["task"], "vqa");
    let mut unasked = requests.clone();
    unasked[0].as_object_mut().map(|map| map.remove("m_loc_q"));
    write_requests(dir.path(), "mine.json", &unasked);
    let refused = run_in(dir.path(), &args);
    assert_eq!(status(&refused), 4);
    assert!(
        stderr(&refused).contains("give --task"),
        "{}",
        stderr(&refused)
    );
    write_requests(dir.path(), "mine.json", &requests);
    args.extend(["--task", "ic", "--set", "filter.contexts=0", "--json"]);
    assert_eq!(object(&run_in(dir.path(), &args))["cells"][0]["task"], "ic");
}

#[test]
fn every_published_setting_is_taken() {
    let dir = folder();
    let settings = [
        "ft-l.scope=layer",
        "ft-l.opt=adam",
        "ft-l.lr=5e-4",
        "ft-l.wd=0",
        "ft-l.steps=25",
        "ft-l.stop_loss=0.01",
        "ft-l.layers=[-1]",
        "scorer.norm=sum",
        "template.vqa={}",
        "template.mloc=Question: {} Short answer:",
    ];
    let flags: Vec<&str> = settings.iter().flat_map(|set| ["--set", *set]).collect();
    let found = object(&edit(
        dir.path(),
        &vqa(2),
        &[&flags[..], &["--json"]].concat(),
    ));
    let plain = object(&edit(dir.path(), &vqa(2), &["--json"]));
    assert_ne!(found["cells"][0]["key"], plain["cells"][0]["key"]);
    let bare = records(dir.path(), &found, 0);
    let framed = records(dir.path(), &plain, 0);
    assert_ne!(
        likelihoods(&bare[0]["before"]),
        likelihoods(&framed[0]["before"])
    );
    let text = fs::read_to_string(
        dir.path()
            .join(found["run"].as_str().expect("a folder"))
            .join("run.json"),
    );
    let run: Value = serde_json::from_str(&text.expect("run.json")).expect("JSON");
    let config = &run["provenance"]["config"];
    assert_eq!(config["protocol"]["norm"], "sum");
    assert_eq!(config["editors"]["tiny-blip2"]["ft-l"]["stop_loss"], 0.01);
}

#[test]
fn bad_requests_are_refused_in_one_line() {
    let dir = folder();
    let with = |key: &str, value: &str| {
        let mut request = vqa(1).remove(0);
        let twin = [("y_less", "alt"), ("image", "image")];
        for (ours, theirs) in twin.into_iter().filter(|(ours, _)| *ours == key) {
            request[ours] = value.into();
            request[theirs] = value.into();
        }
        vec![request]
    };
    let same = vqa(1)[0]["y_more"].as_str().expect("text").to_owned();
    let mut speech = vqa(1);
    speech[0]["task"] = "speech".into();
    let mut train = vqa(1);
    train[0]["split"] = "train".into();
    for (requests, expected) in [
        (Vec::new(), "holds no edit request"),
        (with("y_less", " "), "`y_less` (EasyEdit's `alt`) is empty"),
        (with("y_less", &same), "`y_less` equals y_more"),
        (
            with("image", "no.png"),
            "`image` `no.png` is in none of the image folders",
        ),
        (with("image", "../a.png"), "would leave the images folder"),
        (speech, "`task` `speech` is none of ic, vqa, text"),
        (train, "no request is there to be edited"),
    ] {
        let refused = edit(dir.path(), &requests, &[]);
        let text = stderr(&refused);
        assert_eq!(
            (status(&refused), stdout(&refused).as_str()),
            (4, ""),
            "{text}"
        );
        assert!(
            text.starts_with("error: ") && text.contains(expected),
            "{text}"
        );
        assert!(!dir.path().join("results").exists(), "{expected}");
    }
    let refused = edit(dir.path(), &vqa(1), &["--task", "ic"]);
    assert_eq!(status(&refused), 2, "{}", stderr(&refused));
    let refused = run_in(
        dir.path(),
        &["edit", "--model", "tiny-blip2", "--editor", "ft-l"],
    );
    assert_eq!(status(&refused), 2);
}

#[test]
fn a_record_that_is_too_long_fails_alone() {
    let dir = folder();
    for key in ["prompt", "prompt_rephrase", "loc_q", "mloc_q"] {
        let mut requests = vqa(3);
        let theirs = match key {
            "prompt" => "src",
            "prompt_rephrase" => "rephrase",
            "loc_q" => "loc",
            _ => "m_loc_q",
        };
        for key in [key, theirs] {
            requests[1][key] = "who is it ".repeat(300).into();
        }
        for editor in [&["nothing"][..], &[]] {
            let found = object(&edit(
                dir.path(),
                &requests,
                &[editor, &["--json"]].concat(),
            ));
            let cell = &found["cells"][0];
            assert_eq!(
                (&cell["n"], &cell["failed"]),
                (&2.into(), &1.into()),
                "{key}"
            );
            let lines = records(dir.path(), &found, 0);
            let failed: Vec<_> = lines
                .iter()
                .filter(|line| !line["error"].is_null())
                .collect();
            assert_eq!(failed.len(), 1);
            assert_eq!(failed[0]["id"], requests[1]["id"]);
            let error = failed[0]["error"].as_str().expect("text");
            assert!(error.contains("positions but the model has 384"), "{error}");
        }
    }
    let mut long = vqa(1);
    for key in ["prompt", "src"] {
        long[0][key] = "who is it ".repeat(300).into();
    }
    let output = edit(dir.path(), &long, &["--json"]);
    assert_eq!(status(&output), 3, "{}", stderr(&output));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["cells"][0]["status"], "failed");
}

#[test]
fn training_requests_come_from_a_file_or_from_their_split() {
    let dir = folder();
    let mut learned = town_requests("vqa_train.json");
    learned.truncate(24);
    let train = write_requests(dir.path(), "train.json", &learned);
    let paper = ["--preset", "paper", "--json"];
    let beside = [&paper[..], &["--train", &train[0]]].concat();
    let from_file = object(&edit(dir.path(), &vqa(2), &beside));
    let together = [vqa(2), learned.clone()].concat();
    let from_split = object(&edit(dir.path(), &together, &paper));
    let after = |found: &Value| likelihoods(&records(dir.path(), found, 0)[0]["after"]);
    assert_eq!(from_split["cells"][0]["n"], 2);
    assert_eq!(after(&from_file), after(&from_split));
    assert_ne!(
        after(&from_file),
        likelihoods(&records(dir.path(), &from_file, 0)[0]["before"])
    );

    let none = edit(dir.path(), &vqa(2), &paper);
    assert_eq!(status(&none), 3, "{}", stderr(&none));
    let mut leaked = vqa(1);
    leaked[0]["split"] = "train".into();
    let train = write_requests(dir.path(), "train.json", &leaked);
    let refused = edit(dir.path(), &vqa(2), &["--train", &train[0]]);
    assert_eq!(status(&refused), 4);
    let text = stderr(&refused);
    assert!(text.contains("`id` is used twice"), "{text}");
}

/// Scores of the records before the edit, under the model in `model`.
fn scores_of(dir: &Path, model: &Path, requests: &[Value]) -> Vec<Vec<f64>> {
    let flags = [
        "nothing",
        "--model",
        model.to_str().expect("UTF-8"),
        "--json",
    ];
    let found = object(&edit_with(dir, requests, &flags));
    let lines = records(dir, &found, 0);
    lines
        .iter()
        .map(|line| likelihoods(&line["before"]))
        .collect()
}

#[test]
fn a_saved_model_scores_as_its_edit_did() {
    let dir = folder();
    let copy = model_copy("tiny-minigpt4", dir.path());
    fs::write(copy.join("golden.safetensors"), "of the base").expect("writable");
    for model in ["tiny-blip2", copy.to_str().expect("UTF-8")] {
        let saved = dir.path().join("saved");
        let flags = ["--model", model, "--save", "saved", "--force", "--json"];
        let output = edit_with(dir.path(), &vqa(1), &flags);
        let found = object(&output);
        assert!(stderr(&output).contains("Saved saved: 1 request as one edit"));
        let after = likelihoods(&records(dir.path(), &found, 0)[0]["after"]);
        assert_close(&scores_of(dir.path(), &saved, &vqa(1))[0], &after, 1e-5);
        for stays in ["card.json", "golden.safetensors"] {
            assert!(!saved.join(stays).exists(), "{stays} is about the base");
        }
    }
    // Several requests are one joint edit, which is another one than any of theirs.
    let flags = ["--model", "tiny-blip2", "--save", "joint", "--json"];
    let found = object(&edit_with(dir.path(), &vqa(3), &flags));
    let joint = scores_of(dir.path(), &dir.path().join("joint"), &vqa(3));
    for (line, joint) in records(dir.path(), &found, 0).iter().zip(&joint) {
        let margin = |scores: &[f64]| scores[1] - scores[0];
        assert!(margin(joint) > margin(&likelihoods(&line["before"])));
        assert_ne!(*joint, likelihoods(&line["after"]));
    }
    let verified = run_in(dir.path(), &["verify", "joint"]);
    assert!(
        stderr(&verified).contains("golden.safetensors"),
        "{}",
        stderr(&verified)
    );
}

/// Rewrites the weights of a folder as two shards of bf16 with an index.
fn shard(dir: &Path) {
    let single = dir.join("model.safetensors");
    let mut tensors = Tensors::read(&single);
    let names = tensors.names();
    let mut map = serde_json::Map::new();
    for (at, names) in names.chunks(names.len().div_ceil(2)).enumerate() {
        let file = format!("model-0000{}-of-00002.safetensors", at + 1);
        let mut part = Tensors::default();
        for name in names {
            let halves: Vec<u8> = tensors
                .floats(name)
                .iter()
                .flat_map(|value| ((value.to_bits() >> 16) as u16).to_le_bytes())
                .collect();
            let shape = tensors.header[name]["shape"].clone();
            part.put(name, json!({"dtype": "BF16", "shape": shape}), &halves);
            map.insert(name.clone(), file.clone().into());
        }
        part.write(&dir.join(&file));
    }
    let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).expect("writable");
    fs::remove_file(single).expect("was there");
}

#[test]
fn shards_and_bf16_are_kept() {
    let dir = folder();
    let base = model_copy("tiny-blip2", dir.path());
    shard(&base);
    let flags = ["--model", "model", "--save", "saved", "--json"];
    let found = object(&edit_with(dir.path(), &vqa(1), &flags));
    let saved = dir.path().join("saved");
    let read = |dir: &Path, file: &str| fs::read(dir.join(file)).expect("readable");
    let index = "model.safetensors.index.json";
    assert_eq!(read(&saved, index), read(&base, index));
    assert_eq!(read(&saved, "config.json"), read(&base, "config.json"));
    let mut changed = Vec::new();
    for at in 1..=2 {
        let file = format!("model-0000{at}-of-00002.safetensors");
        let mut old = Tensors::read(&base.join(&file));
        let mut new = Tensors::read(&saved.join(&file));
        assert_eq!(old.header, new.header);
        for name in old.names() {
            if old.bytes(&name) != new.bytes(&name) {
                changed.push(name);
            }
        }
    }
    let ffn = "language_model.model.decoder.layers.3.fc";
    assert!(!changed.is_empty() && changed.iter().all(|name| name.starts_with(ffn)));
    // A bf16 keeps eight bits of each weight.
    let after = likelihoods(&records(dir.path(), &found, 0)[0]["after"]);
    assert_close(&scores_of(dir.path(), &saved, &vqa(1))[0], &after, 0.2);
}

#[test]
fn what_cannot_be_saved_is_said_before_any_work() {
    let dir = folder();
    fs::create_dir(dir.path().join("there")).expect("a folder");
    let both = [vqa(1), {
        let mut ic = town_requests("ic_eval.json");
        ic.truncate(1);
        ic
    }]
    .concat();
    for (requests, flags, exit, expected) in [
        (vqa(1), &["--save", "there"][..], 4, "exists already"),
        (
            vqa(1),
            &["--save", "no/where"],
            4,
            "the folder above it is missing",
        ),
        (both, &["--save", "new"], 2, "requests of both tasks"),
        (
            vqa(1),
            &["--save", "new", "--model", "tiny-minigpt4"],
            2,
            "writes one model",
        ),
    ] {
        let refused = edit(dir.path(), &requests, flags);
        let text = stderr(&refused);
        assert_eq!(status(&refused), exit, "{text}");
        assert!(text.contains(expected), "{text}");
        assert!(!dir.path().join("results").exists());
    }
    assert_eq!(status(&edit(dir.path(), &vqa(1), &["--force"])), 2);
    // An edit that fails leaves no folder.
    let flags = [
        "--set",
        "ft-l.lr=1e30",
        "--set",
        "ft-l.opt=sgd",
        "--save",
        "new",
    ];
    let failed = edit(dir.path(), &vqa(1), &flags);
    assert_eq!(status(&failed), 3, "{}", stderr(&failed));
    assert!(
        stderr(&failed).contains("nothing is saved"),
        "{}",
        stderr(&failed)
    );
    assert!(!dir.path().join("new").exists());
    let base = model_copy("tiny-blip2", dir.path());
    edit_json(&base.join("config.json"), |_| {});
    let onto = ["--model", "model", "--save", "model", "--force"];
    let refused = edit_with(dir.path(), &vqa(1), &onto);
    assert_eq!(status(&refused), 4, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("is the checkpoint that is edited"));
}
