//! Who sends requests: projects of very different size, their tokens, programs
//! and users.

use std::sync::Arc;

use domain::{
    ids::{ProjectId, TokenId},
    time::Timestamp,
};

use crate::dice::{Dice, Weighted};

const PROJECTS: u64 = 320;
/// A few projects send most, as everywhere.
const PROJECT_EXPONENT: f64 = 0.95;
const TOKENS_MAX: u64 = 6;
/// Of the chance that makes the world, beside that of its records.
const WORLD: u64 = 1;
/// When the projects were made: before every record.
const CREATED: Timestamp = Timestamp::from_micros(1_750_000_000_000_000);

const TEAMS: &[&str] = &[
    "checkout",
    "support",
    "search",
    "tutor",
    "billing",
    "ingest",
    "catalog",
    "fraud",
    "mobile",
    "growth",
    "docs",
    "analytics",
    "platform",
    "legal",
    "research",
    "sales",
];
const PURPOSES: &[&str] = &[
    "assistant",
    "summaries",
    "classifier",
    "agent",
    "embeddings",
    "translate",
    "review",
    "triage",
    "chat",
    "extract",
];
const STAGES: &[&str] = &["prod", "prod", "prod", "staging", "dev"];
const REGIONS: &[&str] = &["eu-central-1", "eu-west-1", "us-east-1", "ap-southeast-1"];
const AGENTS: &[&str] = &[
    "OpenAI/Python 1.109.1",
    "OpenAI/JS 5.23.2",
    "Anthropic/Python 0.72.0",
    "Anthropic/JS 0.65.0",
    "langchain-openai/0.3.33 python/3.12.8",
    "AsyncOpenAI/Python 2.6.1",
    "Go-http-client/2.0",
    "okhttp/4.12.0",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "curl/8.14.1",
];

/// A tenant and how its programs behave.
#[derive(Clone, Debug)]
pub struct Project {
    pub id: ProjectId,
    pub name: Arc<str>,
    pub labels: Option<Arc<str>>,
    pub tokens: Vec<TokenId>,
    pub agent: &'static str,
    /// End users, drawn evenly; 0: its requests name none.
    pub users: u64,
    /// Where its programs run.
    pub network: [u8; 2],
    /// Share of its traffic that its own ids name.
    pub names_requests: f64,
}

/// Everybody, from one seed.
#[derive(Clone, Debug)]
pub struct World {
    pub projects: Vec<Project>,
    sizes: Weighted,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let projects = (0..PROJECTS).map(|number| project(seed, number)).collect();
        Self { projects, sizes: Weighted::zipf(PROJECTS as usize, PROJECT_EXPONENT) }
    }

    pub fn draw(&self, dice: &Dice) -> &Project {
        &self.projects[self.sizes.draw(dice)]
    }
}

fn project(seed: u64, number: u64) -> Project {
    let dice = Dice::new(seed, WORLD, number);
    let (team, purpose) = (dice.pick(TEAMS), dice.pick(PURPOSES));
    let (stage, region) = (dice.pick(STAGES), dice.pick(REGIONS));
    let labels = format!(r#"{{"env":"{stage}","region":"{region}","team":"{team}"}}"#);
    Project {
        id: ProjectId::new(CREATED, &dice),
        name: format!("{team}-{purpose}-{stage}-{number:03}").into(),
        labels: (dice.below(10) < 5).then(|| labels.into()),
        tokens: (0..dice.between(1, TOKENS_MAX)).map(|_| TokenId::new(CREATED, &dice)).collect(),
        agent: dice.pick(AGENTS),
        users: if dice.chance(0.6) { dice.between(20, 20_000) } else { 0 },
        network: [dice.between(0, 255) as u8, dice.between(0, 255) as u8],
        names_requests: if dice.chance(0.25) { 0.8 } else { 0.02 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_projects_send_most() {
        let world = World::new(1);
        let dice = Dice::new(1, 9, 9);
        let first = &world.projects[0].id;
        let drawn = (0..10_000).filter(|_| world.draw(&dice).id == *first).count();
        assert!((900..2_500).contains(&drawn), "{drawn}");
        let mut names: Vec<_> = world.projects.iter().map(|project| &project.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len() as u64, PROJECTS);
    }
}
