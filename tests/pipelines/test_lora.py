# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model

from itit_hf import ITITPipeline
from itit_hf.models.types_itit import TextCondition
from itit_hf.pipelines.lora import LORA_TARGETS, WEIGHTS_FILE, add_lora, lora_layers, without_wrapper

from ..testing_utils import generators, tiny_pipeline

PROMPT = ["a red bus", "a blue fish"]


def random_adapter(pipe, folder, seed, rank=2, name="default"):
    """Write an adapter that has an effect, and leave the pipeline as it was."""
    add_lora(pipe.model, rank=rank, adapter_name=name)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter_name, parameter in pipe.model.named_parameters():
            if "lora_" in parameter_name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    pipe.save_lora_weights(folder, name)
    pipe.unload_lora_weights()
    pipe.model.requires_grad_(True)
    return folder


@pytest.fixture
def pipe():
    return tiny_pipeline()


@pytest.fixture
def adapters(pipe, tmp_path):
    return [random_adapter(pipe, tmp_path / name, seed) for seed, name in enumerate(("first", "second"))]


@torch.no_grad()
def logits(pipe):
    """Image and text logits of one pass of two samples, flat."""
    embeds, mask = pipe.encode_prompt(PROMPT)
    config = pipe.model.config
    ids = torch.arange(config.num_image_tokens).expand(2, -1)
    text = torch.tensor(
        [[config.image_token_id] * (config.num_image_tokens + embeds.size(1)) + [config.bos_token_id, 5]]
    )
    output = pipe.model(
        input_ids=text.expand(2, -1),
        image_token_ids=ids,
        text_condition=TextCondition(embeds, mask),
        logit_positions=ids,
    )
    return torch.cat([output.image_logits.flatten(), output.logits[..., : config.num_text_tokens].flatten()])


def weights(pipe):
    return {name: value.clone() for name, value in pipe.model.state_dict().items()}


def test_a_new_adapter_changes_nothing_and_is_all_that_is_trained(pipe):
    before = logits(pipe)
    add_lora(pipe.model, rank=3)
    torch.testing.assert_close(logits(pipe), before)
    trained = [name for name, parameter in pipe.model.named_parameters() if parameter.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in trained} == set(LORA_TARGETS)
    assert not pipe.model.training


def test_an_adapter_comes_back_from_its_folder_and_has_its_effect(pipe, adapters):
    before = logits(pipe)
    pipe.load_lora_weights(adapters[0])
    loaded = logits(pipe)
    assert (loaded - before).abs().max() > 0.1
    other = tiny_pipeline()
    other.load_lora_weights(adapters[0], adapter_name="style")
    torch.testing.assert_close(logits(other), loaded)
    assert other.get_active_adapters() == ["style"]
    assert not any(parameter.requires_grad for name, parameter in other.model.named_parameters() if "lora_" in name)


def test_drawing_and_describing_go_through_the_adapter(pipe, adapters):
    pipe.set_progress_bar_config(disable=True)

    def drawn_and_said():
        ids = pipe(PROMPT, num_inference_steps=2, generator=generators(0, 1), output_type="latent").images
        return ids, pipe.model.generate(image_token_ids=ids * 0, num_beams=1, max_new_tokens=5)

    before = drawn_and_said()
    pipe.load_lora_weights(adapters[0])
    pipe.set_adapters("default", 4.0)
    for plain, adapted in zip(before, drawn_and_said(), strict=True):
        assert plain.shape != adapted.shape or not torch.equal(plain, adapted)


def test_peft_itself_opens_the_folder(pipe, adapters):
    pipe.load_lora_weights(adapters[0])
    ours = logits(pipe)
    other = tiny_pipeline()
    other.model = PeftModel.from_pretrained(other.model, adapters[0]).base_model.model
    torch.testing.assert_close(logits(other), ours)


def test_an_adapter_that_peft_trained_and_saved_is_opened(pipe, tmp_path):
    wrapped = get_peft_model(tiny_pipeline().model, LoraConfig(r=2, target_modules=["fc1"], init_lora_weights=False))
    wrapped.save_pretrained(tmp_path)
    before = logits(pipe)
    pipe.load_lora_weights(tmp_path)
    assert (logits(pipe) - before).abs().max() > 1e-3


def test_a_weight_scales_the_update_of_the_matrices(pipe, adapters):
    pipe.load_lora_weights(adapters[0])
    layer = lora_layers(pipe.model)[0]
    whole = layer.get_delta_weight("default")
    pipe.set_adapters("default", 0.25)
    torch.testing.assert_close(layer.get_delta_weight("default"), 0.25 * whole)
    before = tiny_pipeline()
    pipe.set_adapters("default", 0.0)
    torch.testing.assert_close(logits(pipe), logits(before))


def test_several_adapters_add_up_by_their_weights(pipe, adapters):
    plain = pipe.model.model.layers[0].fc1.weight.clone()
    for name, folder in zip(("a", "b"), adapters, strict=True):
        pipe.load_lora_weights(folder, adapter_name=name)
    assert pipe.get_active_adapters() == ["b"] and pipe.get_list_adapters() == ["a", "b"]
    layer = pipe.model.model.layers[0].fc1
    updates = [layer.get_delta_weight(name) for name in ("a", "b")]
    pipe.set_adapters(["a", "b"], [0.5, -1.0])
    pipe.fuse_lora()
    torch.testing.assert_close(layer.base_layer.weight, plain + 0.5 * updates[0] - updates[1])


def test_fused_weights_draw_the_same_and_come_back(pipe, adapters):
    before = weights(pipe)
    pipe.load_lora_weights(adapters[0])
    adapted = logits(pipe)
    pipe.fuse_lora()
    torch.testing.assert_close(logits(pipe), adapted, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="call `unfuse_lora\\(\\)` before `set_adapters`"):
        pipe.set_adapters("default", 0.5)
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    after = weights(pipe)
    assert before.keys() == after.keys()
    torch.testing.assert_close(after, before)


def test_what_is_fused_stays_when_the_adapter_goes_and_is_saved_as_a_plain_pipeline(pipe, adapters, tmp_path):
    pipe.load_lora_weights(adapters[0])
    adapted = logits(pipe)
    with pytest.raises(ValueError, match="save_lora_weights"):
        pipe.save_pretrained(tmp_path / "pipe")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    pipe.save_pretrained(tmp_path / "pipe")
    torch.testing.assert_close(logits(ITITPipeline.from_pretrained(tmp_path / "pipe")), adapted, atol=1e-4, rtol=1e-4)


def test_unloading_leaves_the_very_weights(pipe, adapters):
    before = weights(pipe)
    pipe.load_lora_weights(adapters[0])
    pipe.set_adapters("default", 0.5)
    pipe.disable_lora()
    assert all(parameter.requires_grad for name, parameter in pipe.model.named_parameters() if "lora_" not in name)
    pipe.unload_lora_weights()
    after = weights(pipe)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert pipe.get_list_adapters() == [] and not lora_layers(pipe.model)


def test_adapters_are_put_aside_and_taken_up_again(pipe, adapters):
    before = logits(pipe)
    pipe.load_lora_weights(adapters[0])
    adapted = logits(pipe)
    pipe.disable_lora()
    assert torch.equal(logits(pipe), before) and pipe.get_active_adapters() == []
    pipe.enable_lora()
    assert torch.equal(logits(pipe), adapted)


def test_one_of_two_adapters_is_deleted(pipe, adapters):
    pipe.load_lora_weights(adapters[0], adapter_name="a")
    only_a = logits(pipe)
    pipe.load_lora_weights(adapters[1], adapter_name="b")
    pipe.delete_adapters("b")
    pipe.set_adapters("a")
    assert torch.equal(logits(pipe), only_a) and pipe.get_list_adapters() == ["a"]


def test_heads_stay_tied_to_their_embeddings(pipe, adapters):
    pipe.load_lora_weights(adapters[0])
    tables = pipe.model.text_decoder.embed_tokens.weight, pipe.model.model.embed_image_tokens.weight
    plain = logits(pipe)
    with torch.no_grad():
        for table in tables:
            table.mul_(2.0)  # were a head a copy, only what goes in would change
    codes = pipe.model.model.code_embeddings
    assert codes.data_ptr() == tables[1].data_ptr() and not torch.allclose(logits(pipe), plain)
    hidden = torch.randn(1, 1, pipe.model.config.decoder_hidden_size)
    expected = hidden @ tables[0][: pipe.model.config.num_text_tokens].T
    torch.testing.assert_close(pipe.model.text_decoder.logits(hidden)[..., : expected.size(-1)], expected)


@pytest.mark.parametrize("targets", [["embed_tokens"], r".*embed_image_tokens", ["fc1", "embed_positions"]])
def test_an_adapter_of_an_embedding_is_refused(pipe, targets):
    with pytest.raises(ValueError, match="must leave the embeddings alone"):
        add_lora(pipe.model, target_modules=targets)
    assert not lora_layers(pipe.model)


def test_an_adapter_with_whole_modules_is_refused(pipe, tmp_path):
    config = LoraConfig(r=2, target_modules=["fc1"], modules_to_save=["project_text"])
    get_peft_model(tiny_pipeline().model, config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="modules_to_save"):
        pipe.load_lora_weights(tmp_path)
    assert not lora_layers(pipe.model)


def test_an_adapter_of_another_model_is_refused_and_leaves_nothing(pipe, adapters):
    other = tiny_pipeline(intermediate_size=48)
    with pytest.raises(ValueError, match="does not fit this model"):
        other.load_lora_weights(adapters[0])
    assert not lora_layers(other.model) and other.get_list_adapters() == []


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda pipe, folder: pipe.load_lora_weights(folder, "a"), "is taken"),
        (lambda pipe, folder: pipe.load_lora_weights(folder, "a.b"), "letters, digits"),
        (
            lambda pipe, folder: pipe.load_lora_weights(folder.parent, "c"),
            "has no adapter_config.json and no adapter_m",
        ),
        (lambda pipe, folder: pipe.set_adapters(["a", "zzz"]), r"must be of \['a'\], got \['zzz'\]"),
        (lambda pipe, folder: pipe.set_adapters(["a"], [1.0, 2.0]), "has 2 entries for 1 adapters"),
        (lambda pipe, folder: pipe.delete_adapters("zzz"), "must be of"),
        (lambda pipe, folder: pipe.save_lora_weights(folder, "zzz"), "must be of"),
        (lambda pipe, folder: add_lora(pipe.model, rank=0, adapter_name="d"), "at least 1, got 0"),
    ],
)
def test_bad_requests_are_refused_by_name(pipe, adapters, change, message):
    pipe.load_lora_weights(adapters[0], "a")
    with pytest.raises(ValueError, match=message):
        change(pipe, adapters[1])


def test_no_pickle_is_read(pipe, adapters):
    (adapters[0] / WEIGHTS_FILE).rename(adapters[0] / "adapter_model.bin")
    with pytest.raises(ValueError, match="has no adapter_model.safetensors"):
        pipe.load_lora_weights(adapters[0])


def state_of(pipe):
    """All that loading another adapter must leave as it is: adapters, which are used, how strongly, and weights."""
    strengths = [dict(layer.scaling) for layer in lora_layers(pipe.model)]
    return (pipe.get_list_adapters(), pipe.get_active_adapters(), strengths), weights(pipe)


def assert_as_before(pipe, before):
    adapters, tensors = state_of(pipe)
    assert adapters == before[0]
    torch.testing.assert_close(tensors, before[1], rtol=0, atol=0)


def test_an_adapter_that_is_refused_leaves_everything_as_it_was(pipe, adapters, tmp_path):
    for name, folder in zip(("a", "b"), adapters, strict=True):
        pipe.load_lora_weights(folder, adapter_name=name)
    pipe.set_adapters(["a", "b"], [0.5, 0.25])
    before = state_of(pipe)
    wide = random_adapter(tiny_pipeline(hidden_size=32), tmp_path / "wide", 2)
    for source, name, message in (
        (adapters[1], "a", "'a' is taken, by one of"),
        (adapters[1], "a.b", "must be of letters"),
        (wide, "c", "does not fit this model"),
    ):
        with pytest.raises(ValueError, match=message):
            pipe.load_lora_weights(source, adapter_name=name)
        assert_as_before(pipe, before)


def test_nothing_is_added_to_fused_adapters_so_that_they_come_out_again(pipe, adapters):
    plain = weights(pipe)
    pipe.load_lora_weights(adapters[0], adapter_name="a")
    pipe.fuse_lora()
    before = state_of(pipe)
    with pytest.raises(ValueError, match="call `unfuse_lora\\(\\)` before `load_lora_weights`"):
        pipe.load_lora_weights(adapters[1], adapter_name="b")
    with pytest.raises(ValueError, match="call `unfuse_lora\\(\\)` before `add_lora`"):
        add_lora(pipe.model, adapter_name="b")
    assert_as_before(pipe, before)
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    torch.testing.assert_close(weights(pipe), plain)


# Models that peft has wrapped


def wrapped(model, task=None):
    """As `get_peft_model` gives it, with an adapter that has an effect."""
    torch.manual_seed(3)
    config = LoraConfig(task_type=task, r=2, target_modules=["q_proj", "fc2"], init_lora_weights=False)
    return get_peft_model(model, config).eval()


@pytest.mark.parametrize("task", [None, "CAUSAL_LM", "FEATURE_EXTRACTION"])
def test_a_wrapped_model_says_what_it_says_with_its_adapter_merged(pipe, task):
    inputs = {"image_token_ids": torch.arange(16)[None] % 23}
    model = wrapped(pipe.model, task)
    generate = model.get_base_model().generate if task == "FEATURE_EXTRACTION" else model.generate
    said = generate(**inputs, num_beams=2, max_new_tokens=5)
    labels = said.masked_fill(said >= pipe.model.config.num_text_tokens, -100)
    output = model(input_ids=said, labels=labels, attention_mask=torch.ones_like(said), **inputs)
    merged = model.merge_and_unload()
    assert torch.equal(merged.generate(**inputs, num_beams=2, max_new_tokens=5), said)
    torch.testing.assert_close(merged(input_ids=said, labels=labels, **inputs).loss, output.loss)


def test_a_pipeline_takes_the_network_out_of_its_wrapper(pipe, tmp_path):
    model = wrapped(pipe.model)
    adapted = ITITPipeline(**{**pipe.components, "model": model})
    assert adapted.model is model.get_base_model() and adapted.get_list_adapters() == ["default"]
    adapted.save_lora_weights(tmp_path)
    other = tiny_pipeline()
    other.load_lora_weights(tmp_path)
    torch.testing.assert_close(logits(other), logits(adapted))
    adapted.fuse_lora()
    adapted.unload_lora_weights()
    torch.testing.assert_close(logits(adapted), logits(other))


def test_a_wrapper_whose_prompts_are_in_front_of_the_network_is_refused(pipe):
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, token_dim=16, num_layers=2)
    config.num_attention_heads = 2
    model = get_peft_model(pipe.model, config)
    with pytest.raises(ValueError, match="adapters within it, got prompts of the kind .'PROMPT_TUNING'."):
        without_wrapper(model)
