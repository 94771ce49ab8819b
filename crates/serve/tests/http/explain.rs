use alexnet::{Explain, explain::Method};
use serde_json::json;

use crate::{classifier, png, post, server};

#[test]
fn an_explanation_has_the_map_of_the_library() {
    let file = png(100, 140, 5);
    let mut classifier = classifier();
    for (method, layer) in [
        (Method::GradCam, json!("conv5")),
        (Method::Guided, json!(null)),
        (Method::GuidedGradCam, json!("conv5")),
    ] {
        let options = Explain { method, class: Some(4), ..Explain::default() };
        let expected = classifier.explain(&file, &options).unwrap();
        let path = format!("/explain?method={}&class=tulips&values=true", method.name());
        let answer = post(server(), &path, &[], &file);
        assert_eq!(answer.status, 200, "{answer:?}");
        let found = answer.json();
        assert_eq!(found["class"], "tulips");
        assert_eq!(found["probability"], expected.class.probability);
        assert_eq!(found["predicted"], expected.prediction.best().name);
        assert_eq!(found["layer"], layer);
        let values: Vec<f32> = serde_json::from_value(found["values"].clone()).unwrap();
        assert_eq!(values, expected.map.values, "{method:?}");
        assert_eq!(found["positive_evidence"], expected.map.has_positive_evidence());
        assert!(found["heatmap"].as_str().unwrap().starts_with("data:image/png;base64,iVBORw0"));
    }
    assert_eq!(post(server(), "/explain", &[], &file).json().get("values"), None);
}

#[test]
fn wrong_requests_are_refused() {
    let file = png(30, 20, 1);
    for (query, body, status, message) in [
        ("class=oak", &file[..], 400, "not a class"),
        ("method=magic", &file, 400, "unknown variant"),
        ("layer=conv6", &file, 400, "unknown variant"),
        ("alpha=0.5", &file, 400, "unknown field"),
        ("", b"words", 422, "not a JPEG"),
        ("", b"", 400, "no image"),
    ] {
        let answer = post(server(), &format!("/explain?{query}"), &[], body);
        assert_eq!(answer.status, status, "{query}: {answer:?}");
        assert!(answer.error().contains(message), "{query}: {answer:?}");
    }
}
