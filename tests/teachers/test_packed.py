"""A packed student against transformers' own: vectors, gradients, and what it refuses."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")
pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed (extra: train)")
pytest.importorskip("leafkit._C", reason="no native module was built")

from leafkit.teachers import open_teacher  # only where torch is
from leafkit.teachers.forward import Forward
from leafkit.teachers.packed import packed_encoder

LENGTHS = (1, 2, 17, 32, 9, 30)


@pytest.fixture(params=["mean", "cls"])
def model(request, teacher_folder):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(teacher_folder), device="cpu")
    model[0].auto_model.set_attn_implementation("eager")
    model[1].pooling_mode = request.param
    torch.manual_seed(3)
    for parameter in model.parameters():  # norms and biases that do something
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.3)
    return model.eval()


def token_ids(lengths=LENGTHS):
    random = np.random.default_rng(4)
    return [random.integers(1, 60, length).astype(np.int32) for length in lengths]


def padded(texts):
    ids = np.zeros((len(texts), max(map(len, texts))), np.int64)
    mask = np.zeros_like(ids)
    for place, text in enumerate(texts):
        ids[place, : len(text)], mask[place, : len(text)] = text, 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def by_transformers(model, texts):
    return model(padded(texts))["sentence_embedding"]


def gradients(model, vectors):
    """Of a fixed random function of the vectors, by parameter."""
    model.zero_grad(set_to_none=True)
    weights = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (vectors.double() * weights).sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def exact(model, texts):
    """What transformers gives in float64, and its gradients; the model is float32 again afterwards."""
    model.double()
    vectors = by_transformers(model, texts)
    of = {name: gradient.clone() for name, gradient in gradients(model, vectors).items()}
    model.float()
    return vectors.detach(), of


def furthest(found, truth):
    """The largest error, by parameter, in units of the parameter's largest gradient of a like layer."""
    assert found.keys() == truth.keys()
    largest = max(float(gradient.abs().max()) for gradient in truth.values())
    return max(float((found[name].double() - truth[name]).abs().max()) for name in truth) / largest


def test_float32_errs_like_transformers_own_float32(model):
    texts = token_ids()
    vectors, truth = exact(model, texts)
    theirs = by_transformers(model, texts)
    floor = (float((theirs.detach().double() - vectors).abs().max()), furthest(gradients(model, theirs), truth))
    ours = packed_encoder(model, bfloat16=False)(texts)
    assert ours.dtype == torch.float32
    # Sums in other orders: the error of one order bounds that of another up to a small factor.
    assert float((ours.detach().double() - vectors).abs().max()) <= 4 * floor[0] + 2.0**-24
    assert furthest(gradients(model, ours), truth) <= 4 * floor[1]


def test_bfloat16_errs_no_more_than_twice_what_autocast_does(model):
    texts = token_ids()
    vectors, truth = exact(model, texts)
    with torch.autocast("cpu", torch.bfloat16):
        theirs = by_transformers(model, texts)
    limit = float((theirs.detach().double() - vectors).abs().max()), furthest(gradients(model, theirs), truth)
    ours = packed_encoder(model, bfloat16=True)(texts)
    assert float((ours.detach().double() - vectors).abs().max()) <= 2 * limit[0]
    assert furthest(gradients(model, ours), truth) <= 2 * limit[1]


def test_a_text_gets_the_same_vector_whatever_stands_beside_it(model):
    packed, texts = packed_encoder(model, bfloat16=False), token_ids()
    together = packed(texts)
    for place, text in enumerate(texts):
        torch.testing.assert_close(packed([text])[0], together[place], rtol=0, atol=2e-6)


def test_the_same_texts_give_the_same_bits(model):
    packed, texts = packed_encoder(model, bfloat16=True), token_ids()
    first = (vectors := packed(texts)).detach(), gradients(model, vectors)
    second = (vectors := packed(texts)).detach(), gradients(model, vectors)
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])


def test_frozen_parameters_get_no_gradient_and_change_no_other(model):
    packed, texts = packed_encoder(model, bfloat16=False), token_ids()
    free = {name: gradient.clone() for name, gradient in gradients(model, packed(texts)).items()}
    frozen = ("word_embeddings", "layer.0.", "attention.self.key", "intermediate.dense", "output.LayerNorm.bias")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(part in name for part in frozen))
    some = gradients(model, packed(texts))
    assert some
    assert not any(part in name for name in some for part in frozen)
    assert all(torch.equal(some[name], free[name]) for name in some)


def test_tied_layers_sum_their_gradients(model):
    layers = model[0].auto_model.encoder.layer
    layers[1] = layers[0]
    texts = token_ids()
    truth = exact(model, texts)[1]
    floor = furthest(gradients(model, by_transformers(model, texts)), truth)
    assert furthest(gradients(model, packed_encoder(model, bfloat16=False)(texts)), truth) <= 4 * floor


def test_nothing_is_kept_without_gradients_and_a_backward_may_run_twice(model):
    packed, texts = packed_encoder(model, bfloat16=False), token_ids()
    with torch.no_grad():
        quiet = packed(texts)
    with torch.inference_mode():
        assert torch.equal(packed(texts), quiet)
    assert quiet.grad_fn is None
    vectors = packed(texts)
    assert torch.equal(vectors, quiet)
    model.zero_grad(set_to_none=True)
    vectors.sum().backward(retain_graph=True)
    once = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    vectors.sum().backward()
    for name, parameter in model.named_parameters():
        if name in once:
            torch.testing.assert_close(parameter.grad, 2 * once[name], rtol=1e-5, atol=1e-6)


def test_parameters_are_the_models_own(model):
    packed, texts = packed_encoder(model, bfloat16=False), token_ids()
    before = packed(texts).detach()
    with torch.no_grad():
        model[0].auto_model.encoder.layer[1].output.dense.weight.mul_(-1)
    assert not torch.allclose(before, packed(texts))


@pytest.mark.parametrize(
    ("lengths", "message"), [((), "no text"), ((3, 0), "0 to 3 tokens"), ((65,), "1 to 64 tokens")]
)
def test_texts_that_cannot_be_packed_are_refused(model, lengths, message):
    with pytest.raises(ValueError, match=message):
        packed_encoder(model, bfloat16=False)(token_ids(lengths))


def not_plain(model, what):
    from transformers import MPNetConfig, MPNetModel

    if what == "mpnet":
        config = MPNetConfig(
            vocab_size=67, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
        )
        model[0].model = MPNetModel(config)
    elif what == "activation":
        model[0].auto_model.config.hidden_act = "relu"
    elif what == "decoder":
        model[0].auto_model.config.is_decoder = True
    elif what == "head dim":
        model[0].auto_model.config.num_attention_heads = 4
    elif what == "pooling":
        model[1].pooling_mode = "max"
    else:
        model.double()


@pytest.mark.parametrize("what", ["mpnet", "activation", "decoder", "head dim", "pooling", "dtype"])
def test_what_is_no_plain_bert_is_left_to_transformers(model, what):
    assert packed_encoder(model, bfloat16=False) is not None
    not_plain(model, what)
    assert packed_encoder(model, bfloat16=False) is None


def test_without_the_native_module_there_is_no_packed_encoder(model, monkeypatch):
    monkeypatch.setenv("LEAFKIT_NATIVE", "0")
    assert packed_encoder(model, bfloat16=False) is None


def test_a_static_table_has_no_packed_encoder():
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    table = StaticEmbedding(Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]")), embedding_dim=16)
    assert packed_encoder(SentenceTransformer(modules=[table], device="cpu"), bfloat16=False) is None


@pytest.mark.parametrize("bfloat16", [False, True])
def test_frozen_weights_give_the_same_bits(model, bfloat16):
    texts = token_ids()
    frozen = packed_encoder(model, bfloat16=bfloat16, frozen=True)
    with torch.no_grad():
        expected = packed_encoder(model, bfloat16=bfloat16)(texts)
    out = frozen(texts)
    assert torch.equal(out, expected)
    assert not out.requires_grad
    assert torch.equal(frozen(texts), out)


def test_forward_is_the_models_own(teacher_folder):
    teacher = open_teacher(teacher_folder, precision="float32")
    texts = ["w1 w2 w3", "w4", "", " ".join(["w5"] * 90)]  # one is empty, one is cut
    own = teacher.model.encode(texts, convert_to_numpy=True, normalize_embeddings=True)
    assert Forward(teacher.model, bfloat16=False)._packed is not None
    assert np.abs(teacher.encode(texts, "document") - own).max() < 1e-5
