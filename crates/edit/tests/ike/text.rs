//! What is read: the order of demonstrations, and what is left out of it.

use super::*;

#[test]
fn the_whole_input_reads_as_specified() {
    let model = model(opt, 512);
    let mut taught = record("north", 0);
    taught.prompt = "is this person rich or poor".into();
    taught.y_less = "poor".into();
    let train = chunk(&model, vec![taught]);
    let mut asked = record("eval", 0);
    asked.prompt = "is this person rich or poor".into();
    asked.y_less = "poor".into();
    let eval = chunk(&model, vec![asked]);
    let edit = &edits(prepared(&model, &train, &[("k", "1")]).as_ref(), &eval)[0];
    // The copy sentence of the training record says the same, so nothing is nearer.
    let expected = "New Fact: Question: is this person rich or poor Short answer: poor\n\
                    Prompt: Question: is this person rich or poor Short answer: poor\n\n\
                    New Fact: Question: is this person rich or poor Short answer: poor\n\
                    Prompt: Question: is this person rich or poor Short answer: poor\n\n\
                    New Fact: Question: is this person rich or poor Short answer: poor\n\
                    Prompt: who keeps the bridge";
    assert_eq!(said(edit, "who keeps the bridge"), expected);
    assert_eq!(edit.touches(), Touches::Input);
    assert_eq!(edit.bytes(), expected.len() - "who keeps the bridge".len());
}

#[test]
fn demonstrations_stand_in_the_order_of_either_variant() {
    let model = model(llama, 512);
    let train = chunk(&model, records("north", 4));
    let eval = chunk(&model, records("eval", 2));
    let embedding = TextEmbedding::of(&model, None).expect("the model's own words");
    let near = |texts: &[String], query: &str| -> Vec<usize> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let vectors = embedding.embed(&texts).expect("embedded");
        let query = embedding.one(query).expect("embedded");
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by(|a, b| {
            let (a, b) = (cosine(&vectors[*a], &query), cosine(&vectors[*b], &query));
            b.total_cmp(&a)
        });
        order
    };
    let all: Vec<String> = train.records().iter().flat_map(sentences).collect();
    let copies: Vec<String> = all.iter().step_by(3).cloned().collect();
    let easyedit = prepared(&model, &train, &[("k", "5")]);
    let original = prepared(&model, &train, &[("k", "3"), ("variant", "original")]);
    let (easyedit, original) = (edits(&*easyedit, &eval), edits(&*original, &eval));
    for (at, record) in eval.records().iter().enumerate() {
        let [own, ..] = sentences(record);
        let order = near(&all, &own);
        let shown: String = order[..5].iter().map(|i| all[*i].as_str()).collect();
        let end = format!("{own}{}", own.split("Question").next().expect("a start"));
        assert!(said(&easyedit[at], "x").starts_with(&format!("{shown}{end}")));

        let shown = said(&original[at], "x");
        let blocks: Vec<&str> = shown.split_inclusive("\n\n").collect();
        assert_eq!(blocks.len(), 5);
        let order = near(&copies, &own);
        for (block, nearest) in blocks[..3].iter().rev().zip(order) {
            assert!(all[3 * nearest..3 * nearest + 3].contains(&(*block).to_owned()));
        }
        assert_eq!(blocks[3], own);
    }
}

#[test]
fn no_demonstration_and_no_fact_are_the_identity() {
    // [C3]
    for family in FAMILIES {
        let model = model(family, 512);
        let (train, eval) = (
            chunk(&model, records("north", 2)),
            chunk(&model, records("eval", 3)),
        );
        let none = prepared(&model, &train, &[("k", "0"), ("fact", "false")]);
        let edits = edits(&*none, &eval);
        assert!(edits.iter().all(|edit| edit.touches() == Touches::Nothing));
        assert!(edits.iter().all(|edit| said(edit, "x") == "x"));
        assert_eq!(eval.after(&edits).expect("scores"), eval.before());
        let settings = ike().identity(&settings(&[])).expect("a setting");
        assert_eq!(settings, self::settings(&[("k", "0"), ("fact", "false")]));
    }
}

#[test]
fn demonstrations_that_do_not_fit_are_left_out_from_the_front() {
    for family in FAMILIES {
        let model = model(family, 160);
        let (train, eval) = (
            chunk(&model, records("north", 4)),
            chunk(&model, records("eval", 2)),
        );
        let ready = prepared(&model, &train, &[("k", "12")]);
        let edits = edits(&*ready, &eval);
        let after = eval.after(&edits).expect("scores");
        for (at, (edit, after)) in edits.iter().zip(&after).enumerate() {
            let example = eval.example(at);
            let record = &example.request.record;
            let shortened = |prompt: &str| -> String {
                let whole = said(edit, prompt);
                let blocks: Vec<&str> = whole.split_inclusive("\n\n").collect();
                let fits = |text: &String| {
                    let answers = [record.y_more.as_str(), record.y_less.as_str()];
                    model.row_pair(Some(sight(0)), text, answers).is_ok()
                };
                let mut texts = (0..blocks.len()).map(|from| blocks[from..].concat());
                texts.find(fits).expect("one fits")
            };
            assert!(
                shortened(&example.request.prompt).len() < said(edit, rephrase(&example)).len()
            );
            assert_near(&sums(after), &plainly(&model, &example, shortened));
        }
        let remarks = ready.remarks().join("\n");
        assert!(
            remarks.contains("in 10 of 10 prompts the first "),
            "{remarks}"
        );
        // Scoring again counts nothing twice.
        eval.after(&edits).expect("scores");
        assert_eq!(ready.remarks().join("\n"), remarks);
    }
}

#[test]
fn a_cap_leaves_out_demonstrations_but_never_the_fact() {
    let model = model(opt, 512);
    let (train, eval) = (
        chunk(&model, records("north", 4)),
        chunk(&model, records("eval", 1)),
    );
    let ready = prepared(&model, &train, &[("k", "12"), ("cap", "1")]);
    let capped = eval.after(&edits(&*ready, &eval)).expect("scores");
    let example = eval.example(0);
    let bare = |prompt: &str| {
        let fact = format!(
            "{} {}",
            example.request.prompt, example.request.record.y_less
        );
        format!("New Fact: {fact}\nPrompt: {prompt}")
    };
    assert_near(&sums(&capped[0]), &plainly(&model, &example, bare));
    let remarks = ready.remarks().join("\n");
    assert!(
        remarks.contains("in 5 of 5 prompts the first 13 "),
        "{remarks}"
    );
}

#[test]
fn a_record_whose_bare_fact_does_not_fit_is_named() {
    // [C2]
    let model = model(opt, 96);
    let mut long = record("eval", 0);
    let tokens = |text: &str| model.text().encode(text, false).expect("tokens").len();
    while tokens(&long.prompt) < 60 {
        long.prompt.push_str(" very");
    }
    let (train, eval) = (
        chunk(&model, records("north", 2)),
        chunk(&model, vec![long]),
    );
    let edits = edits(&*prepared(&model, &train, &[("k", "2")]), &eval);
    let refused = eval.after(&edits).expect_err("too long");
    assert!(matches!(&refused, Error::Record { id, .. } if id == "eval-0"));
    let message = refused.to_string();
    assert!(
        message.contains("`eval-0`") && message.contains("96"),
        "{message}"
    );
}

#[test]
fn the_edit_does_not_know_which_answer_is_scored() {
    // [C15]
    let model = model(llama, 512);
    let train = chunk(&model, records("north", 4));
    let ready = prepared(&model, &train, &[("k", "4")]);
    let scored = |y_more: &str| {
        let mut asked = record("eval", 1);
        asked.y_more = y_more.into();
        let eval = chunk(&model, vec![asked]);
        let edits = edits(&*ready, &eval);
        let text = said(&edits[0], "x");
        (text, eval.after(&edits).expect("scores")[0])
    };
    let ((text, scores), (other_text, other)) = (scored("rich"), scored("a clever one"));
    assert_eq!(text, other_text);
    assert_near(
        &scores
            .contexts()
            .iter()
            .map(|context| context.y_less.sum)
            .collect::<Vec<_>>(),
        &other
            .contexts()
            .iter()
            .map(|context| context.y_less.sum)
            .collect::<Vec<_>>(),
    );
    assert_ne!(scores.prompt.y_more, other.prompt.y_more);
}
