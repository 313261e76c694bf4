//! Which demonstrations are shown, and which fact is stated.

use super::*;

#[test]
fn demonstrations_of_the_same_group_are_not_shown() {
    // [C18]
    let model = model(opt, 512);
    let mut taught = records("north", 4);
    taught[1].group = "eval-group-0".into();
    taught[1].t_locality.as_mut().expect("it has one").answer = "red ball".into();
    let (train, eval) = (chunk(&model, taught), chunk(&model, records("eval", 2)));
    for variant in ["easyedit", "original"] {
        let ready = prepared(&model, &train, &[("k", "32"), ("variant", variant)]);
        let edits = edits(&*ready, &eval);
        let facts = |edit: &Edit| said(edit, "x").matches("north person rich").count();
        assert_eq!(facts(&edits[0]), 0, "{variant}");
        assert!(facts(&edits[1]) > 0, "{variant}");
    }
}

#[test]
fn a_prompt_is_asked_behind_the_nearest_of_several_facts() {
    let model = model(opt, 512);
    let (train, eval) = (
        chunk(&model, records("north", 4)),
        chunk(&model, records("eval", 3)),
    );
    let nearest = prepared(&model, &train, &[("k", "2")]);
    let alone = edits(&*nearest, &eval);
    let joint = nearest.edit_jointly(&eval.requests()).expect("joined");
    for (at, alone) in alone.iter().enumerate() {
        let prompt = &eval.request(at).prompt;
        assert_eq!(said(&joint, prompt), said(alone, prompt));
    }
    // [C11] A record is scored as if its edit were alone, up to the facts its prompts choose.
    let together = Arc::new(joint);
    let both = eval.after(&vec![together; 3]).expect("scores");
    let apart = eval.after(&alone).expect("scores");
    for (both, apart) in both.iter().zip(&apart) {
        assert_eq!(both.prompt, apart.prompt);
        assert_eq!(both.image_rephrase, apart.image_rephrase);
    }

    let all = prepared(&model, &train, &[("k", "2"), ("multi", "concat_all")]);
    let alone = edits(&*all, &eval);
    let joint = all.edit_jointly(&eval.requests()).expect("joined");
    for (at, alone) in alone.iter().enumerate() {
        let prompt = &eval.request(at).prompt;
        let text = said(&joint, prompt);
        assert!(text.ends_with(&said(alone, prompt)));
        for record in eval.records() {
            assert!(text.contains(&sentences(record)[0]));
        }
    }
}

#[test]
fn of_equally_near_facts_the_earlier_is_stated() {
    let model = model(opt, 512);
    let train = chunk(&model, records("north", 2));
    let mut asked = records("eval", 2);
    asked[1].prompt = asked[0].prompt.clone();
    let eval = chunk(&model, asked);
    let ready = prepared(&model, &train, &[("k", "0")]);
    let joint = ready.edit_jointly(&eval.requests()).expect("joined");
    let prompt = &eval.request(1).prompt;
    assert_eq!(
        said(&joint, prompt),
        said(&edits(&*ready, &eval)[0], prompt)
    );
}

#[test]
fn a_prefix_from_elsewhere_stands_in_front_as_it_is() {
    let model = model(opt, 512);
    let eval = chunk(&model, records("eval", 1));
    let prefix = |text: &str| Edit::from(Context::prefix(text.into()));
    let edit = Arc::new(prefix("the person is very dull "));
    let after = eval.after(std::slice::from_ref(&edit)).expect("scores");
    let expected = plainly(&model, &eval.example(0), |prompt| {
        format!("the person is very dull {prompt}")
    });
    assert_near(&sums(&after[0]), &expected);
    let joined = Edit::joined(&[edit, Arc::new(prefix("or not "))]).expect("of one kind");
    assert_eq!(said(&joined, "x"), "the person is very dull or not x");
    // Nothing in front of anything is the identity.
    let nothing = Arc::new(prefix(""));
    assert_eq!(eval.after(&[nothing]).expect("scores"), eval.before());
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    // [C4]
    let model = model(llama, 512);
    let (train, eval) = (
        chunk(&model, records("north", 4)),
        chunk(&model, records("eval", 2)),
    );
    let run = |variant: &str| {
        let ready = prepared(&model, &train, &[("k", "4"), ("variant", variant)]);
        let edits = edits(&*ready, &eval);
        let texts: Vec<String> = edits.iter().map(|edit| said(edit, "x")).collect();
        (texts, eval.after(&edits).expect("scores"))
    };
    for variant in ["easyedit", "original"] {
        assert_eq!(run(variant), run(variant));
    }
    // [C9] A record alone and among others.
    let ready = prepared(&model, &train, &[("k", "4")]);
    let only = chunk(&model, records("eval", 1));
    let alone = only.after(&edits(&*ready, &only)).expect("scores");
    assert_near(&sums(&alone[0]), &sums(&run("easyedit").1[0]));
}

#[test]
fn without_an_encoder_the_result_says_so() {
    let model = model(opt, 512);
    let train = chunk(&model, records("north", 1));
    let remarks = prepared(&model, &train, &[("k", "1")]).remarks();
    assert!(
        remarks
            .iter()
            .any(|r| r.starts_with("ike: no sentence encoder given"))
    );
    assert!(
        remarks
            .iter()
            .any(|r| r.contains("the edit target stands in every prompt"))
    );
    let embedding = TextEmbedding::of(&model, None).expect("the model's own words");
    assert_eq!(embedding.width(), 24);
    let vectors = embedding
        .embed(&["red ball", "", "red ball"])
        .expect("embedded");
    assert!((cosine(&vectors[0], &vectors[2]) - 1.0).abs() < 1e-6);
    assert_eq!(vectors[1], vec![0.0; 24]);
}

#[test]
fn an_empty_corpus_is_refused() {
    let model = model(opt, 512);
    let settings = settings(&[]);
    let ctx = Ctx {
        seed: 3,
        settings: &settings,
        store: &Nowhere,
    };
    let refused = ike()
        .prepare(&model, &Lessons::none(), &ctx)
        .err()
        .expect("refused");
    assert!(matches!(refused, Error::NothingToLearn { editor: "ike" }));
}

/// A folder of the fixtures; `None` where they are not on this machine.
fn fixture(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("DEBIAS_BENCH_FIXTURES").map(PathBuf::from);
    let folder = folder.map(|root| root.join("models").join(name));
    let found = folder.filter(|folder| folder.is_dir());
    if found.is_none() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "DEBIAS_BENCH_FIXTURES holds no models/{name}"
        );
        eprintln!("SKIPPED: DEBIAS_BENCH_FIXTURES holds no models/{name}");
    }
    found
}

#[test]
fn a_sentence_encoder_is_used_where_one_is_given() {
    let Some(folder) = fixture("bert_sentence") else {
        return;
    };
    let model = model(opt, 512);
    let (train, eval) = (
        chunk(&model, records("north", 4)),
        chunk(&model, records("eval", 2)),
    );
    let path = folder.display().to_string();
    let given = [("k", "4"), ("encoder", path.as_str())];
    assert_eq!(ike().inputs(&settings(&given)).expect("a path"), [folder]);
    ike().check(&model, &settings(&given)).expect("an encoder");
    let ready = prepared(&model, &train, &given);
    assert!(!ready.remarks().join("\n").contains("no sentence encoder"));
    let with = edits(&*ready, &eval);
    eval.after(&with).expect("scores");
    let without = edits(&*prepared(&model, &train, &[("k", "4")]), &eval);
    assert_eq!(
        said(&with[0], "x").matches("\n\n").count(),
        said(&without[0], "x").matches("\n\n").count()
    );
}

#[test]
fn a_folder_without_an_encoder_is_refused_before_any_work() {
    let Some(folder) = fixture("opt") else {
        return;
    };
    let model = model(opt, 512);
    let path = folder.display().to_string();
    let refused = ike().check(&model, &settings(&[("encoder", path.as_str())]));
    let message = refused.expect_err("a decoder").to_string();
    assert!(
        message.contains("ike.encoder") && message.contains("holds no encoder"),
        "{message}"
    );
}
