//! Places in a JSON document that an operator names: `messages.*.content`,
//! `metadata.email`, `**.ssn`, `$.choices[0].text`.

/// Paths that one configuration may have, and steps of one.
pub const PATHS_MAX: usize = 64;
pub const STEPS_MAX: usize = 16;
/// Longest text of a path.
pub const PATH_BYTES_MAX: usize = 256;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Name(Box<str>),
    /// `*`: any one member or element.
    Any,
    /// `**`: any number of levels, none included.
    Deep,
}

/// A path, parsed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path(Vec<Step>);

impl Path {
    /// `None` where the text is not a path.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > PATH_BYTES_MAX || text.chars().any(char::is_control) {
            return None;
        }
        let text = text.strip_prefix("$.").unwrap_or(text);
        // `a[0].b[*]` is `a.0.b.*`.
        let dotted = text.replace('[', ".").replace(']', "");
        let step = |word: &str| match word {
            "" => None,
            "*" => Some(Step::Any),
            "**" => Some(Step::Deep),
            name => Some(Step::Name(name.into())),
        };
        let steps: Vec<Step> = dotted.split('.').map(step).collect::<Option<_>>()?;
        let ends_well = !matches!(steps.last(), Some(Step::Deep) | None);
        (ends_well && steps.len() <= STEPS_MAX).then_some(Self(steps))
    }

    /// Whether the path leads to the place with these names (elements of arrays
    /// by their number).
    pub(super) fn leads_to(&self, place: &[Box<str>]) -> bool {
        matches(&self.0, place)
    }
}

/// Greedy with one way back, as for globs: linear for what people write.
fn matches(steps: &[Step], place: &[Box<str>]) -> bool {
    let (mut step, mut at) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while at < place.len() {
        match steps.get(step) {
            Some(Step::Deep) => {
                back = Some((step + 1, at));
                step += 1;
                continue;
            }
            Some(Step::Any) => {
                (step, at) = (step + 1, at + 1);
                continue;
            }
            Some(Step::Name(name)) if **name == *place[at] => {
                (step, at) = (step + 1, at + 1);
                continue;
            }
            _ => {}
        }
        let Some((after, from)) = back else { return false };
        back = Some((after, from + 1));
        (step, at) = (after, from + 1);
    }
    steps[step..].iter().all(|step| *step == Step::Deep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_they_say() {
        let check = |path: &str, place: &str, expected: bool| {
            let path = Path::parse(path).expect("a path");
            let place: Vec<Box<str>> = place.split('.').map(Box::from).collect();
            assert_eq!(path.leads_to(&place), expected, "{path:?} to {place:?}");
        };
        check("user", "user", true);
        check("user", "metadata.user", false);
        check("$.messages[*].content", "messages.3.content", true);
        check("messages.0.content", "messages.1.content", false);
        check("**.ssn", "ssn", true);
        check("**.ssn", "a.b.c.ssn", true);
        check("**.ssn", "a.ssn.b", false);
        check("a.**.b.*.c", "a.x.b.b.y.c", true);
        check("a.**.b.*.c", "a.x.b.b.y.d", false);
        check("*", "a", true);
        check("*", "a.b", false);
        for text in ["", "$.", "a..b", "**", "a.**", "a\nb", &"a.".repeat(40)] {
            assert_eq!(Path::parse(text), None, "{text:?}");
        }
    }
}
