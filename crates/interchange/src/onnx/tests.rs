use std::{
    collections::{BTreeMap, HashSet},
    fs, mem,
};

use alexnet_core::{ExifOrientation, Node, Op, alexnet::Variant};

use super::{
    messages::{AttributeProto, NodeProto},
    *,
};

fn metadata(variant: Variant, classes: usize) -> Metadata {
    Metadata {
        variant,
        classes: (0..classes).map(|i| format!("\"fleur\" nº {i}")).collect(),
        input_size: variant.topology(classes).input[1],
        resize_crop: None,
        normalization: Normalization::IMAGENET,
        exif_orientation: ExifOrientation::Ignore,
        precision: Default::default(),
    }
}

/// Each parameter is filled with its number in the order of the network, except its first element.
fn weights(variant: Variant, classes: usize) -> Weights {
    let parameters = variant.topology(classes).parameters().unwrap();
    let filled = parameters.iter().zip(1u8..).map(|(p, i)| {
        let mut array = Array::filled(&p.shape, f32::from(i));
        array.values[0] = f32::NAN;
        (p.name.clone(), array)
    });
    Weights { metadata: metadata(variant, classes), parameters: filled.collect() }
}

fn saved(weights: &Weights, softmax: bool) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.onnx");
    save(weights, &path, softmax).unwrap();
    fs::read(path).unwrap()
}

/// Returns the model and its graph, without numbers.
fn described(variant: Variant, softmax: bool) -> (ModelProto, GraphProto) {
    let metadata = metadata(variant, 3);
    (model(&metadata).unwrap(), graph(&metadata, &variant.topology(3), softmax).unwrap())
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> &'a AttributeProto {
    node.attribute
        .iter()
        .find(|a| a.name == name)
        .unwrap_or_else(|| panic!("{node:?} lacks {name}"))
}

fn node<'a>(graph: &'a GraphProto, name: &str) -> &'a NodeProto {
    graph.node.iter().find(|node| node.name == name).unwrap()
}

/// Returns the name and the shape `[batch, …]` of the only value.
fn shape(values: &[ValueInfoProto]) -> (String, Vec<String>) {
    let [value] = values else { panic!("{values:?}") };
    let tensor = value.r#type.clone().unwrap().tensor_type.unwrap();
    assert_eq!(tensor.elem_type(), DataType::Float);
    let extents = tensor.shape.unwrap().dim.into_iter().map(|dim| match dim {
        Dimension { dim_value: Some(extent), dim_param: None } => extent.to_string(),
        Dimension { dim_value: None, dim_param: Some(name) } => name,
        other => panic!("{other:?}"),
    });
    (value.name.clone(), extents.collect())
}

/// The streamed bytes are one valid message with all numbers at the right positions.
#[test]
fn a_file_contains_the_parameters_in_the_order_of_the_network() {
    for variant in Variant::ALL {
        let weights = weights(variant, 3);
        let mut file = ModelProto::decode(saved(&weights, false).as_slice()).unwrap();
        let initializers = mem::take(&mut file.graph.as_mut().unwrap().initializer);
        let parameters = variant.topology(3).parameters().unwrap();
        assert_eq!(initializers.len(), parameters.len());
        for (initializer, parameter) in initializers.iter().zip(parameters) {
            let TensorProto { dims, name, raw_data, .. } = initializer;
            assert_eq!((name, initializer.data_type()), (&parameter.name, DataType::Float));
            assert!(
                dims.iter().copied().eq(parameter.shape.iter().map(|e| *e as i64)),
                "{name}: {dims:?}"
            );
            let values = &weights.parameters[name].values;
            assert_eq!(raw_data.len(), 4 * values.len());
            let mut bytes = raw_data.chunks_exact(4);
            assert!(values.iter().all(|v| bytes.next() == Some(&v.to_le_bytes())), "{name}");
        }
        let (model, graph) = described(variant, false);
        assert_eq!(file, ModelProto { graph: Some(graph), ..model });
    }
}

#[test]
fn values_are_defined_before_use_and_all_are_used() {
    for variant in Variant::ALL {
        for softmax in [false, true] {
            let (_, graph) = described(variant, softmax);
            let parameters = variant.topology(3).parameters().unwrap();
            let mut known: HashSet<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
            known.insert(IMAGES);
            let mut unused = known.clone();
            for node in &graph.node {
                for input in &node.input {
                    assert!(
                        known.contains(input.as_str()),
                        "{variant}: {} reads {input}",
                        node.name
                    );
                    unused.remove(input.as_str());
                }
                let [output] = node.output.as_slice() else { panic!("{node:?}") };
                assert!(known.insert(output), "{variant}: {output} is defined twice");
                unused.insert(output);
            }
            assert_eq!(Vec::from_iter(unused), [if softmax { PROBABILITIES } else { LOGITS }]);
        }
    }
}

#[test]
fn the_nodes_are_those_of_the_network_without_dropout() {
    for variant in Variant::ALL {
        let (_, graph) = described(variant, false);
        let expected: Vec<(String, &str)> = variant
            .topology(3)
            .nodes
            .into_iter()
            .filter_map(|Node { name, op }| {
                let op_type = match op {
                    Op::Conv2d { .. } => "Conv",
                    Op::Relu => "Relu",
                    Op::MaxPool2d { .. } => "MaxPool",
                    Op::LocalResponseNorm { .. } => "LRN",
                    Op::Flatten => "Flatten",
                    Op::Linear { .. } => "Gemm",
                    Op::Dropout { .. } => return None,
                };
                Some((name, op_type))
            })
            .collect();
        let found: Vec<_> =
            graph.node.iter().map(|n| (n.name.clone(), n.op_type.as_str())).collect();
        assert_eq!(found, expected);
        assert_eq!(found.len(), variant.topology(3).nodes.len() - 2);
    }
}

/// Compares with the arguments of the `torch.nn` modules.
#[test]
fn attributes_are_those_of_the_layers() {
    let (_, graph) = described(Variant::Original, true);
    let ints = |name: &str, key: &str| attribute(node(&graph, name), key).ints.clone();
    let int = |name: &str, key: &str| attribute(node(&graph, name), key).i.unwrap();
    let float = |name: &str, key: &str| attribute(node(&graph, name), key).f.unwrap();
    assert_eq!(node(&graph, "features.0").input, [IMAGES, "features.0.weight", "features.0.bias"]);
    assert_eq!(ints("features.0", "kernel_shape"), [11, 11]);
    assert_eq!(ints("features.0", "strides"), [4, 4]);
    assert_eq!(ints("features.0", "pads"), [0; 4]);
    assert_eq!(int("features.0", "group"), 1);
    assert_eq!(ints("features.4", "pads"), [2; 4]);
    assert_eq!(int("features.4", "group"), 2);
    assert_eq!(ints("features.2", "kernel_shape"), [3, 3]);
    assert_eq!(ints("features.2", "strides"), [2, 2]);
    assert_eq!(int("features.3", "size"), 5);
    assert_eq!(float("features.3", "alpha"), 5.0 * 1e-4);
    assert_eq!(float("features.3", "beta"), 0.75);
    assert_eq!(float("features.3", "bias"), 2.0);
    assert_eq!(int("flatten", "axis"), 1);
    assert_eq!(int("classifier.0", "transB"), 1);
    assert_eq!(int("softmax", "axis"), 1);

    let (_, graph) = described(Variant::Torchvision, false);
    assert_eq!(attribute(node(&graph, "features.0"), "pads").ints, [2; 4]);
}

#[test]
fn the_batch_size_is_a_free_dimension() {
    for (variant, size) in [(Variant::Tutorial, "224"), (Variant::Original, "227")] {
        for (softmax, output) in [(false, LOGITS), (true, PROBABILITIES)] {
            let (_, graph) = described(variant, softmax);
            let named = |name: &str, extents: &[&str]| {
                (name.to_owned(), extents.iter().map(|extent| extent.to_string()).collect())
            };
            assert_eq!(shape(&graph.input), named("images", &["batch", "3", size, size]));
            assert_eq!(shape(&graph.output), named(output, &["batch", "3"]));
        }
    }
}

#[test]
fn a_file_contains_metadata_and_versions() {
    let (model, _) = described(Variant::Tutorial, false);
    let entries: BTreeMap<_, _> =
        model.metadata_props.into_iter().map(|e| (e.key, e.value)).collect();
    assert_eq!(
        Vec::from_iter(entries.keys()),
        ["classes", "exif_orientation", "input_size", "mean", "std", "variant"]
    );
    assert_eq!(Metadata::from_text(&entries).unwrap(), metadata(Variant::Tutorial, 3));
    for words in
        ["[batch, 3, 224, 224]", "RGB", "(pixel / 255 - mean) / std", "mean [0.485, 0.456, 0.406]"]
    {
        assert!(model.doc_string.contains(words), "{}", model.doc_string);
    }
    let versions: Vec<_> =
        model.opset_import.iter().map(|o| (o.domain.as_str(), o.version)).collect();
    assert_eq!((model.ir_version, versions), (8, vec![("", 17)]));
    assert_eq!(
        (model.producer_name.as_str(), model.producer_version.as_str()),
        ("alexnet", "0.1.0")
    );
}

#[test]
fn equal_weights_give_equal_bytes() {
    let mut weights = weights(Variant::Tutorial, 2);
    let file = saved(&weights, true);
    assert!(file == saved(&weights.clone(), true));
    assert!(file != saved(&weights, false));
    weights.parameters.get_mut("classifier.6.bias").unwrap().values[1] += 1.0;
    assert!(file != saved(&weights, true));
}

/// The asymmetric windows of ONNX and of `torch.nn.LocalResponseNorm` have their extra channel on
/// different sides.
#[test]
fn normalization_over_an_even_number_of_channels_is_refused() {
    let norm = |size| Node {
        name: "features.3".into(),
        op: Op::LocalResponseNorm { size, alpha: 1e-4, beta: 0.75, k: 2.0 },
    };
    assert!(lower::lower(&norm(3), IMAGES).is_ok());
    let error = lower::lower(&norm(4), IMAGES).unwrap_err();
    assert!(matches!(error, Error::Topology { .. }));
    assert!(error.to_string().contains("`features.3`: a window of 4 channels"), "{error}");
}

#[test]
fn parameters_of_another_network_are_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.onnx");
    let mut weights = weights(Variant::Tutorial, 2);
    weights.metadata.classes.push("tulips".into());
    let error = save(&weights, &path, false).unwrap_err();
    assert!(matches!(error, Error::Parameters { .. }));
    assert!(
        error.to_string().contains("classifier.6.weight: expected [3, 2048], found [2, 2048]"),
        "{error}"
    );
    assert!(!path.exists());
}
