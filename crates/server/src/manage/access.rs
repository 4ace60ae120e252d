//! Who asks, and what each role may.

use std::collections::BTreeSet;

use domain::{
    audit::{Actor, EntryContext, EntryDraft},
    ids::ProjectId,
    role::Role,
};

use super::error::{Error, Result};

/// What a route demands of its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permission {
    /// Metadata of projects, tokens and the service.
    View,
    /// Changes of projects and tokens.
    Operate,
    /// Captured bodies.
    ReadBodies,
    /// More lines at once than a page has.
    Export,
    /// The audit log.
    Audit,
    /// Management keys and settings of the whole service.
    Administer,
}

impl Permission {
    pub fn granted_to(self, role: Role) -> bool {
        match self {
            Self::View => true,
            Self::Operate => matches!(role, Role::Admin | Role::Operator),
            Self::ReadBodies | Self::Export | Self::Audit => {
                matches!(role, Role::Admin | Role::Auditor)
            }
            Self::Administer => role == Role::Admin,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::ReadBodies => "read_bodies",
            Self::Export => "export",
            Self::Audit => "audit",
            Self::Administer => "administer",
        }
    }
}

/// An authenticated caller with the context of the request at hand. The actor
/// comes from authentication alone; nothing in a request can name another.
#[derive(Clone, Debug)]
pub struct Caller {
    pub actor: Actor,
    pub role: Role,
    /// The projects that the caller's key is limited to.
    pub projects: Option<BTreeSet<ProjectId>>,
    pub context: EntryContext,
    /// `X-Audit-Reason`: why, in the caller's words.
    pub reason: Option<String>,
}

impl Caller {
    pub fn sees(&self, project: ProjectId) -> bool {
        self.projects.as_ref().is_none_or(|projects| projects.contains(&project))
    }

    /// Refuses a project beyond the caller's limit as if it did not exist.
    pub fn check_project(&self, project: ProjectId) -> Result<()> {
        if self.sees(project) {
            return Ok(());
        }
        Err(Error::not_found("project"))
    }

    /// The limit in the form that list filters take.
    pub fn project_ids(&self) -> Option<Vec<ProjectId>> {
        self.projects.as_ref().map(|projects| projects.iter().copied().collect())
    }

    /// Adds the caller's own words to an entry.
    pub fn explain(&self, draft: EntryDraft) -> EntryDraft {
        match &self.reason {
            Some(reason) => draft.note(reason),
            None => draft,
        }
    }
}
