//! Activations of observed nodes, and the gradients with respect to them and to the images
//! ([`alexnet_core::Model::inspect`]).
//!
//! Images and parameters are chosen as in [`super::networks`], so that no unit is near a kink.

use std::collections::BTreeSet;

use alexnet_core::{
    Array, Error, Logits, Mode, Op, Optimizer, ReluRule, State, Topology, alexnet::Variant,
    backend::Gradients, inspection::Observed,
};

use super::networks::away_from_kinks;
use crate::{
    case::{Case, Engine, Outcome},
    compare, fixtures,
    naming::slug,
    reference::inspection,
};

const RULES: [(&str, ReluRule); 2] =
    [("gradient", ReluRule::Gradient), ("guided", ReluRule::Guided)];

/// Returns the cases: all nodes of each network, its last hidden layer, single nodes, and invalid
/// input.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let reduced = Variant::ALL.map(|variant| {
        (format!("reduced {variant}"), fixtures::shrink(&variant.topology(5), 8, [75, 91]))
    });
    let networks = [("miniature".to_owned(), fixtures::miniature())].into_iter().chain(reduced);
    for (name, topology) in networks {
        for (rule_name, rule) in RULES {
            let all = names(&topology, |_| true);
            cases.push(case(
                format!("all_nodes::{rule_name}_{}", slug(&name)),
                &topology,
                all,
                rule,
            ));
            let relus = names(&topology, |op| *op == Op::Relu);
            cases.push(case(format!("relus::{rule_name}_{}", slug(&name)), &topology, relus, rule));
        }
        cases.push(last_hidden_layer(&name, &topology));
    }
    let miniature = fixtures::miniature();
    for node in &miniature.nodes {
        let observed = BTreeSet::from([node.name.clone()]);
        let name = format!("one_node::{}", slug(&node.name));
        cases.push(case(name, &miniature, observed, ReluRule::Gradient));
    }
    cases.push(Case::new("inspection::invalid::nothing_is_observed", |engine| {
        let error = invalid(engine, &BTreeSet::new(), ReluRule::Gradient)?;
        expect_invalid(error)
    }));
    cases.push(Case::new("inspection::invalid::guided_without_a_relu", |engine| {
        let mut relus = names(&fixtures::miniature(), |op| *op == Op::Relu);
        relus.pop_last();
        expect_invalid(invalid(engine, &relus, ReluRule::Guided)?)
    }));
    cases.push(Case::new("inspection::invalid::unknown_node", |engine| {
        let (topology, observed) = (fixtures::miniature(), BTreeSet::from(["layer.99".into()]));
        let state = fixtures::balanced_state(&mut fixtures::rng("inspection"), &topology);
        expect_invalid(engine.compile_observed(&topology, &state, &observed).err())
    }));
    cases
}

/// Returns the names of the nodes whose operation satisfies `wanted`.
fn names(topology: &Topology, wanted: impl Fn(&Op) -> bool) -> BTreeSet<String> {
    let nodes = topology.nodes.iter().filter(|node| wanted(&node.op));
    nodes.map(|node| node.name.clone()).collect()
}

fn case(name: String, topology: &Topology, observed: BTreeSet<String>, rule: ReluRule) -> Case {
    let topology = topology.clone();
    let [_, height, width] = topology.input;
    let key = format!("inspection: {} nodes, [{height}, {width}]", topology.nodes.len());
    Case::new(format!("inspection::{name}"), move |engine| {
        let (state, batch) = away_from_kinks(&key, &topology, 2, 0, Mode::Differentiate)?;
        let network = engine.reference(&topology, &state, Optimizer::default())?;
        let mut model = engine.compile_observed(&topology, &state, &observed)?;
        let images = &batch.images;
        let classes = topology.classes()?;
        let cotangent = fixtures::cotangent(&mut fixtures::rng(&key), images.len(), classes);
        let found = model.inspect(images, &cotangent, rule)?;

        let trace = network.forward(images, Mode::Differentiate)?;
        let layers_after: Vec<usize> = (1..=topology.nodes.len()).collect();
        let nodes = Observed::new(&topology, &observed, &layers_after);
        let truth = inspection(&network, &nodes, &trace, &cotangent, rule);
        within(engine, "the logits", &logits(&found.logits), &logits(&truth.logits))?;
        same_names(&found.activations, &truth.activations)?;
        same_names(&found.gradients, &truth.gradients)?;
        for (name, truth) in &truth.activations {
            within(engine, &format!("the output of {name}"), &found.activations[name], truth)?;
        }
        for (name, truth) in &truth.gradients {
            aligned(engine, &format!("the gradient of {name}"), &found.gradients[name], truth)?;
        }
        aligned(engine, "the gradient of the images", &found.input_gradient, &truth.input_gradient)
    })
}

/// Compares the output of the network without its last layer with the input of that layer in the
/// whole network.
fn last_hidden_layer(name: &str, topology: &Topology) -> Case {
    let topology = topology.clone();
    let key = format!("last hidden layer: {name}");
    Case::new(format!("inspection::last_hidden_layer::{}", slug(name)), move |engine| {
        let (mut state, batch) = away_from_kinks(&key, &topology, 2, 0, Mode::Evaluate)?;
        let network = engine.reference(&topology, &state, Optimizer::default())?;
        let trace = network.forward(&batch.images, Mode::Evaluate)?;
        let hidden = topology.without_last_layer()?;
        let kept: Vec<String> = hidden.parameters()?.into_iter().map(|p| p.name).collect();
        state.parameters.retain(|name, _| kept.contains(name));
        let mut model = engine.compile(&hidden, &state, Optimizer::default())?;
        let found = logits(&model.logits(&batch.images)?);
        within(engine, "the features", &found, &trace.input_of(topology.nodes.len() - 1).to_array())
    })
}

fn logits(logits: &Logits) -> Array {
    let Logits { values, classes } = logits;
    Array { shape: vec![values.len() / classes, *classes], values: values.clone() }
}

fn same_names(found: &Gradients, truth: &Gradients) -> Outcome {
    if found.keys().eq(truth.keys()) {
        return Ok(());
    }
    Err(format!("nodes {:?} instead of {:?}", found.keys(), truth.keys()).into())
}

/// Compares with the tolerance that the logits of complete networks have.
fn within(engine: &Engine, what: &str, found: &Array, truth: &Array) -> Outcome {
    engine.same_outputs(what, &found.values, &same_shape(what, found, truth)?)
}

/// Compares with the tolerance that the gradients of complete networks have.
fn aligned(engine: &Engine, what: &str, found: &Array, truth: &Array) -> Outcome {
    let truth = same_shape(what, found, truth)?;
    compare::aligned(what, &found.values, &truth, engine.of_gradients(1e-4))
}

/// Checks the shape and returns the true values.
fn same_shape(what: &str, found: &Array, truth: &Array) -> Outcome<Vec<f64>> {
    if found.shape != truth.shape {
        return Err(
            format!("{what} has shape {:?} instead of {:?}", found.shape, truth.shape).into()
        );
    }
    Ok(truth.values.iter().map(|v| f64::from(*v)).collect())
}

/// Returns the error of an inspection of the miniature network.
fn invalid(engine: &Engine, observed: &BTreeSet<String>, rule: ReluRule) -> Outcome<Option<Error>> {
    let topology = fixtures::miniature();
    let mut rng = fixtures::rng("inspection");
    let State { parameters, .. } = fixtures::balanced_state(&mut rng, &topology);
    let options = alexnet_core::Options {
        device: engine.device,
        observed: observed.clone(),
        ..Default::default()
    };
    let mut model = engine.backend.compile(&topology, State::from(parameters), &options)?;
    let images = fixtures::images(&mut rng, 2, [19, 17]);
    let cotangent = fixtures::cotangent(&mut rng, 2, 5);
    Ok(model.inspect(&images, &cotangent, rule).err())
}

fn expect_invalid(error: Option<Error>) -> Outcome {
    match error {
        Some(Error::Invalid { field: "observed", .. }) => Ok(()),
        other => Err(format!("{other:?} instead of an error about the observed nodes").into()),
    }
}
