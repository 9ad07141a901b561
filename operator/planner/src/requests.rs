//! What a request takes on a plan that may have been made for others: the measure by which plans are compared.

use std::rc::Rc;

use crate::period::Scratch;
use crate::search::{Problem, request::Request};
use crate::timeline::{goal_of, layout_of};
use lime_plan::{Fleet, Goal, Nanos, Plan};

/// What requests take on a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTime {
    /// From a prompt to its first token.
    pub first_token: Nanos,
    /// Time of a pass.
    pub time_per_token: Nanos,
    /// From the prompts of as many requests as the plan was made for, which come at once, to the ends of their answers.
    pub request: Nanos,
}

/// What requests of so many tokens take on `plan`, with caches as long as it expects them; `None` where plan and fleet
/// do not belong together.
pub fn request_time(plan: &Plan, fleet: &Fleet, prompt_tokens: u32, answer_tokens: u32) -> Option<RequestTime> {
    let layout = layout_of(plan, fleet)?;
    let goal = Goal { typical_prompt: Some(prompt_tokens), typical_answer: Some(answer_tokens), ..goal_of(plan) };
    let mut problem = Problem::new(&plan.model, fleet, &goal);
    let together = plan.outlook.as_ref().map_or(1, |outlook| outlook.prompt_passes);
    problem.request = Rc::new(Request::new(&plan.model, fleet, &goal).together(together));
    let mut scratch = Scratch::default();
    let pass = problem.evaluate(&layout, &mut scratch)?.1.nanos();
    let prompts = problem.request.play(fleet, &layout, &mut scratch)?;
    Some(RequestTime {
        first_token: Nanos(prompts.first),
        time_per_token: Nanos(pass),
        request: problem.request.total(pass, prompts.all),
    })
}
