"""What a run says of the process that made it."""

import json

from scaling.environment import environment


def test_the_environment_names_versions_and_the_command_but_no_variables(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "do-not-record")
    found = environment(["scaling", "train", "a b"], ["cpu:0"])
    assert found["command"] == "scaling train 'a b'"
    assert found["devices"] == ["cpu:0"]
    assert {"jax", "orbax-checkpoint"} <= found["packages"].keys()
    assert "do-not-record" not in json.dumps(found)
