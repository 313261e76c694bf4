//! How a fact is stated in front of a prompt, so that a model may learn it from its context.
//!
//! In-context knowledge editing (IKE; Zheng et al. 2023, *Can We Edit Factual Knowledge by
//! In-Context Learning?*) changes no weight: it writes demonstrations, the new fact and the prompt
//! one after the other. A demonstration copies its fact, carries it over to other words (update)
//! or shows that it leaves an unrelated question alone (retain). The embedded models are trained
//! on the very same text, so both sides take it from here.

/// What closes a demonstration.
pub const GAP: &str = "\n\n";

/// A prompt and what is to be answered to it; the prompt stands in its template already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// The answer, without a leading blank.
    pub target: &'a str,
}

impl Fact<'_> {
    /// `{prompt} {target}`.
    pub fn sentence(&self) -> String {
        format!("{} {}", self.prompt, self.target)
    }
}

/// A fact and one prompt answered under it: `New Fact: {fact}\nPrompt: {shown}`, closed by an empty
/// line. [`copy`], [`update`] and [`retain`] are its three kinds.
pub fn demonstrate(fact: Fact, shown: Fact) -> String {
    query(fact, &shown.sentence()) + GAP
}

/// The demonstration that a fact answers its own prompt.
pub fn copy(fact: Fact) -> String {
    demonstrate(fact, fact)
}

/// The demonstration that a fact also answers `rephrase`, its prompt in other words.
pub fn update(fact: Fact, rephrase: &str) -> String {
    let shown = Fact {
        prompt: rephrase,
        target: fact.target,
    };
    demonstrate(fact, shown)
}

/// The demonstration that a fact leaves `unrelated` as it was.
pub fn retain(fact: Fact, unrelated: Fact) -> String {
    demonstrate(fact, unrelated)
}

/// The new fact and the prompt `x` asked under it, which an answer follows after one blank:
/// `New Fact: {fact}\nPrompt: {x}`.
pub fn query(fact: Fact, x: &str) -> String {
    format!("New Fact: {}\nPrompt: {x}", fact.sentence())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACT: Fact = Fact {
        prompt: "Question: Is it {} or not? Short answer:",
        target: "not",
    };

    #[test]
    fn the_three_kinds_differ_in_what_they_show() {
        assert_eq!(
            copy(FACT),
            "New Fact: Question: Is it {} or not? Short answer: not\n\
             Prompt: Question: Is it {} or not? Short answer: not\n\n"
        );
        assert_eq!(
            update(FACT, "Question: Would it be? Short answer:"),
            "New Fact: Question: Is it {} or not? Short answer: not\n\
             Prompt: Question: Would it be? Short answer: not\n\n"
        );
        let unrelated = Fact {
            prompt: "Who keeps the mill?",
            target: "Mira",
        };
        assert_eq!(
            retain(FACT, unrelated),
            "New Fact: Question: Is it {} or not? Short answer: not\n\
             Prompt: Who keeps the mill? Mira\n\n"
        );
    }

    #[test]
    fn a_query_and_its_answer_read_like_a_demonstration() {
        let asked = query(FACT, FACT.prompt);
        assert!(asked.ends_with("Short answer:"));
        assert_eq!(format!("{asked} {}\n\n", FACT.target), copy(FACT));
    }
}
