use alexnet::image;
use serde_json::{Value, json};

use crate::{Answer, CLASSES, classifier, get, png, post, server};

const INFER: &str = "/v2/models/alexnet/infer";

fn infer(request: &Value) -> Answer {
    post(server(), INFER, &[], request.to_string().as_bytes())
}

/// Returns the probabilities of the classes in their order.
fn expected(file: &[u8]) -> Vec<f64> {
    let prediction = classifier().predict(&file.to_vec()).unwrap();
    let of = |index| prediction.classes().iter().find(|class| class.index == index).unwrap();
    (0..CLASSES.len()).map(|index| of(index).probability).collect()
}

#[test]
fn the_metadata_names_the_tensors() {
    assert_eq!(get(server(), "/v2").json()["extensions"], json!(["binary_tensor_data"]));
    assert_eq!(get(server(), "/v2/health/live").json(), json!({"live": true}));
    assert_eq!(get(server(), "/v2/health/ready").json(), json!({"ready": true}));
    for path in ["/v2/models/alexnet", "/v2/models/alexnet/versions/1"] {
        let model = get(server(), path).json();
        assert_eq!(model["inputs"][0]["datatype"], "BYTES");
        assert_eq!(model["outputs"][0]["shape"], json!([-1, 5]));
        assert_eq!(get(server(), &format!("{path}/ready")).json()["ready"], true);
    }
    for (path, status) in [
        ("/v2/models/resnet", 404),
        ("/v2/models/alexnet/versions/2", 404),
        ("/v2/models/a/ready", 404),
        ("/v2/models/%ff", 400),
        ("/v2/models/alexnet/infer", 405),
        ("/v2/models/alexnet/versions/1/infer", 405),
    ] {
        let answer = get(server(), path);
        assert_eq!(answer.status, status, "{path}");
        assert!(!answer.error().is_empty());
    }
}

#[test]
fn files_and_pixels_give_the_answers_of_the_library() {
    let (first, second) = (png(250, 230, 1), png(90, 310, 2));
    let files = [&first, &second].map(|file| base64(file));
    let input = json!({"name": "image", "datatype": "BYTES", "shape": [2], "data": files});
    let answer = infer(&json!({"id": "7", "inputs": [input]}));
    assert_eq!(answer.status, 200, "{answer:?}");
    let found = answer.json();
    assert_eq!((&found["id"], &found["model_name"]), (&json!("7"), &json!("alexnet")));
    let output = &found["outputs"][0];
    assert_eq!((&output["name"], &output["shape"]), (&json!("probabilities"), &json!([2, 5])));
    let found: Vec<f64> = serde_json::from_value(output["data"].clone()).unwrap();
    for (found, expected) in found.iter().zip([expected(&first), expected(&second)].concat()) {
        assert!((found - expected).abs() < 1e-6);
    }

    let image = image::load_from_memory(&first).unwrap().to_rgb8();
    let rows: Vec<Vec<[u8; 3]>> =
        image.rows().map(|row| row.map(|pixel| pixel.0).collect()).collect();
    for data in [json!([rows]), json!(image.as_raw())] {
        let shape = json!([1, 230, 250, 3]);
        let input = json!({"name": "pixels", "datatype": "UINT8", "shape": shape, "data": data});
        let answer = infer(&json!({"inputs": [input], "outputs": [{"name": "class"}]}));
        assert_eq!(answer.status, 200, "{answer:?}");
        let best = classifier().predict(&first).unwrap().best().name.clone();
        assert_eq!(answer.json()["outputs"][0]["data"], json!([best]));
        assert_eq!(answer.json()["outputs"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn tensors_can_be_binary() {
    let file = png(250, 230, 1);
    let request = json!({
        "inputs": [{
            "name": "image", "datatype": "BYTES", "shape": [1],
            "parameters": {"binary_data_size": file.len() + 4}
        }],
        "outputs": [
            {"name": "class", "parameters": {"binary_data": false}},
            {"name": "probabilities", "parameters": {"binary_data": true}}
        ]
    })
    .to_string();
    let body = [request.as_bytes(), &(file.len() as u32).to_le_bytes(), &file].concat();
    let length = request.len().to_string();
    let answer = post(server(), INFER, &[("inference-header-content-length", &length)], &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let json_length: usize = answer.header("inference-header-content-length").parse().unwrap();
    let (head, binary) = answer.body.split_at(json_length);
    let head: Value = serde_json::from_slice(head).unwrap();
    assert_eq!(head["outputs"][1]["parameters"]["binary_data_size"], binary.len());
    let numbers: Vec<f64> =
        binary.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!(numbers, expected(&file));
}

#[test]
fn invalid_tensors_are_refused() {
    let file = base64(&png(20, 20, 1));
    let image = |shape: Value, data: Value| json!([{"name": "image", "datatype": "BYTES", "shape": shape, "data": data}]);
    let pixels = |shape: Value, data: Value| json!([{"name": "pixels", "datatype": "UINT8", "shape": shape, "data": data}]);
    let large = u64::MAX / 3;
    for (inputs, status) in [
        (json!([]), 400),
        (json!(null), 400),
        (json!([{}]), 400),
        (image(json!([2]), json!([file])), 400),
        (image(json!([0]), json!([])), 400),
        (image(json!([]), json!([file])), 400),
        (image(json!([1]), json!(["%%%"])), 400),
        (image(json!([1]), json!([7])), 400),
        (image(json!([1]), json!(null)), 400),
        (image(json!([33]), json!(vec![&file; 33])), 413),
        (image(json!([1]), json!([base64(b"words")])), 422),
        (pixels(json!([1, 2, 2, 3]), json!(vec![0; 11])), 400),
        (pixels(json!([1, 1, 1, 3]), json!([1, 2, 3, "junk"])), 400),
        (pixels(json!([1, 2, 2, 3]), json!(vec![256; 12])), 400),
        (pixels(json!([1, 2, 2, 3]), json!(vec![-1; 12])), 400),
        (pixels(json!([1, 2, 2, 3]), json!(vec![0.5; 12])), 400),
        (pixels(json!([1, 2, 2, 1]), json!(vec![0; 4])), 400),
        (pixels(json!([1, large, large, 3]), json!([])), 400),
        (pixels(json!([1, 0, 5, 3]), json!([])), 400),
        (pixels(json!([1, -1, 5, 3]), json!([])), 400),
        (pixels(json!(vec![1; 17]), json!([])), 400),
    ] {
        let answer = infer(&json!({"inputs": inputs}));
        assert_eq!(answer.status, status, "{inputs}: {answer:?}");
        assert!(!answer.error().is_empty());
    }
    let inputs = image(json!([1]), json!([file]));
    for outputs in [json!([{"name": "logits"}]), json!([{"name": "class"}, {"name": "class"}])] {
        assert_eq!(infer(&json!({"inputs": inputs, "outputs": outputs})).status, 400);
    }
    let both = json!([{
        "name": "image", "datatype": "BYTES", "shape": [1], "data": [file],
        "parameters": {"binary_data_size": 0}
    }]);
    for (inputs, message) in [
        (pixels(json!([1, 0, 5, 3]), json!([])), "no pixels"),
        (pixels(json!([1, large, large, 3]), json!([])), "too many elements"),
        (pixels(json!([1, 2, 2, 3]), json!([0])), "has 12 elements, but the data has 1"),
        (both, "both `data` and `binary_data_size`"),
    ] {
        let answer = infer(&json!({"inputs": inputs}));
        assert!(answer.error().contains(message), "{answer:?}");
    }
    let nulls = json!({"id": null, "inputs": inputs, "outputs": null, "parameters": null});
    assert_eq!(infer(&nulls).status, 200);
    for (length, body) in [("99", "{}"), ("-1", "{}"), ("x", "{}"), ("2", "{}more")] {
        let answer =
            post(server(), INFER, &[("inference-header-content-length", length)], body.as_bytes());
        assert_eq!(answer.status, 400, "{length}");
    }
    let long = json!({"id": "a".repeat(1000), "inputs": inputs});
    assert_eq!(infer(&long).status, 400);
    // A response does not grow with the request.
    let quoted = infer(&json!({"inputs": "\u{7f}".repeat(1 << 20)}));
    assert!(quoted.status == 400 && quoted.body.len() < 10_000, "{}", quoted.body.len());
    // Deep nesting and many small elements cost an error, not the stack or the memory.
    for body in ["[".repeat(1 << 20), format!("{{\"inputs\":[{}", "{},".repeat(1 << 20))] {
        assert_eq!(post(server(), INFER, &[], body.as_bytes()).status, 400);
    }
}

/// Returns bytes in base64 (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |chunk: &[u8]| {
        let bits =
            chunk.iter().chain(&[0; 2]).take(3).fold(0, |bits, byte| bits << 8 | *byte as usize);
        let digit = |at: usize| DIGITS[bits >> (18 - 6 * at) & 63] as char;
        (0..4).map(|at| if at <= chunk.len() { digit(at) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(digits).collect()
}
