//! Scores behind a long context are those of rows read alone.

use super::*;

#[test]
fn reading_what_rows_share_once_changes_no_score() {
    for family in FAMILIES {
        let model = model(family, 512);
        let (train, eval) = (
            chunk(&model, records("north", 4)),
            chunk(&model, records("eval", 3)),
        );
        let edits = edits(&*prepared(&model, &train, &[("k", "4")]), &eval);
        let after = eval.after(&edits).expect("scores");
        for (at, (edit, after)) in edits.iter().zip(&after).enumerate() {
            let example = eval.example(at);
            let expected = plainly(&model, &example, |prompt| said(edit, prompt));
            assert_near(&sums(after), &expected);
            assert_ne!(sums(after), sums(&eval.before()[at]));
        }
    }
}

#[test]
fn locality_compares_the_end_that_both_rows_share() {
    for family in FAMILIES {
        let model = model(family, 512);
        let (train, eval) = (
            chunk(&model, records("north", 2)),
            chunk(&model, records("eval", 2)),
        );
        let edits = edits(&*prepared(&model, &train, &[("k", "2")]), &eval);
        let after = eval.after(&edits).expect("scores");
        for (at, edit) in edits.iter().enumerate() {
            let example = eval.example(at);
            let posed = [&example.t_locality, &example.m_locality];
            let [t_locality, m_locality] = posed.map(|item| item.as_ref().expect("it has one"));
            let read = |prompt: &str, picture: Option<ImageRef>, answer| -> (Row, Tensor<2>) {
                let question = Question::new(picture, prompt, answer);
                let rows = model.rows(&[question]).expect("fits");
                let batch = match picture {
                    Some(_) => Batch::with_pictures(rows.clone(), seen(&example)),
                    None => Batch::text(rows.clone()),
                };
                let logits = model.logits(batch, &View::base()).squeeze_dim(0);
                (rows[0].clone(), logits)
            };
            for (picture, item, found) in [
                (None, t_locality, after[at].t_locality),
                (Some(sight(2)), m_locality, after[at].m_locality),
            ] {
                let (prompt, answer) = (&item.prompt, &item.answer);
                let found = found.expect("it was asked");
                let (base, before) = read(prompt, picture, answer);
                let (edited, behind) = read(&said(edit, prompt), picture, answer);
                // The first word has a blank in front of it only behind the context.
                let text = base.ids.len() - picture.map_or(0, |_| 4);
                let common = (0..text)
                    .rev()
                    .take_while(|i| {
                        let from_end = text - i;
                        base.ids[base.ids.len() - from_end]
                            == edited.ids[edited.ids.len() - from_end]
                    })
                    .count();
                assert!(common >= 4 && common < text, "{common} of {text}");
                let last = |logits: Tensor<2>| {
                    let n = logits.dims()[0];
                    logits.narrow(0, n - common, common)
                };
                let answers = base.answer().len();
                let answers = common - 1 - answers..common - 1;
                let (before, behind) = (last(before), last(behind));
                let expected = locality_of_pairs(before, behind, answers, base.answer());
                let expected = expected.expect("finite");
                assert_eq!(found.positions, common);
                assert_eq!(found.answer_positions, expected.answer_positions);
                assert_eq!(found.answer_correct, expected.answer_correct);
                assert_eq!(found.top1_kept, expected.top1_kept);
                assert_eq!(found.answer_top10_shared, expected.answer_top10_shared);
                assert!((found.kl - expected.kl).abs() < 1e-5 * expected.kl);
                assert!((found.answer_kl - expected.answer_kl).abs() < 1e-5 * expected.answer_kl);
                assert!(found.kl > 0.0);
            }
        }
    }
}
