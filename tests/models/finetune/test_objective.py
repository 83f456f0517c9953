"""The losses of a batch, and gradient accumulation that equals one large batch."""

import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import BertConfig, BertForQuestionAnswering, DistilBertForQuestionAnswering

from models.data import collate
from models.finetune.objective import Objective, Weights, layerwise_loss, shares_of
from models.finetune.qa import QARecipe, encode_examples
from models.predict import forward
from models.squad import QAExample
from models.student import make_student
from models.tasks.qa import QuestionAnswering

CPU = torch.device("cpu")
RECIPE = QARecipe.__new__(QARecipe)  # its losses need none of what it is made of
CONTEXTS = ("Ada wrote.", "Ada Lovelace wrote the first program in 1843.", "Ada is in Zürich by the lake.", "Ada.")


@pytest.fixture
def teacher(bert_tokenizer: Tokenizer) -> BertForQuestionAnswering:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 4}
    teacher = BertForQuestionAnswering(BertConfig(vocab_size=bert_tokenizer.get_vocab_size(), **sizes))
    teacher.eval()
    return teacher


def test_accumulated_batches_give_the_gradients_of_one_large_batch(
    teacher: BertForQuestionAnswering, bert_tokenizer: Tokenizer
) -> None:
    student = make_student(teacher, DistilBertForQuestionAnswering, (0, 2))
    objective = Objective(student, [teacher], RECIPE, Weights(0.3, 0.7, 1.0, 1.0))
    examples = [QAExample(str(i), "", "Who?", context, ("Ada",), (0,)) for i, context in enumerate(CONTEXTS)]
    windows = encode_examples(QuestionAnswering(bert_tokenizer), examples, doc_stride=0)

    gradients = []
    for parts in ([windows], [windows[:1], windows[1:]]):
        batches = [collate(part, pad_token_id=0, device=CPU) for part in parts]
        student.zero_grad()
        for batch, shares in zip(batches, shares_of(batches), strict=True):
            objective.total(objective(batch), shares).backward()
        gradients.append({name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None})
    whole, accumulated = gradients
    assert whole
    for name, gradient in whole.items():
        torch.testing.assert_close(accumulated[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it(
    teacher: BertForQuestionAnswering, bert_tokenizer: Tokenizer
) -> None:
    with torch.no_grad():  # then token types make no difference either
        teacher.bert.embeddings.token_type_embeddings.weight[1] = teacher.bert.embeddings.token_type_embeddings.weight[
            0
        ]
    student = make_student(teacher, DistilBertForQuestionAnswering, range(4)).eval()
    objective = Objective(student, [teacher], RECIPE, Weights(0.0, 1.0, 1.0, 1.0))
    windows = encode_examples(
        QuestionAnswering(bert_tokenizer), [QAExample("1", "", "Who?", CONTEXTS[1], ("Ada",), (0,))], doc_stride=0
    )
    losses = objective(collate(windows, pad_token_id=0, device=CPU))
    assert losses["hard"] > 0.1
    for name in ("soft", "hidden", "relation"):
        assert losses[name].item() == pytest.approx(0.0, abs=1e-6)


def test_of_several_teachers_a_student_learns_the_mean_of_their_probabilities(
    teacher: BertForQuestionAnswering, bert_tokenizer: Tokenizer
) -> None:
    torch.manual_seed(1)
    other = BertForQuestionAnswering(teacher.config).eval()
    student = make_student(teacher, DistilBertForQuestionAnswering, (0, 2)).eval()
    [item] = encode_examples(
        QuestionAnswering(bert_tokenizer), [QAExample("1", "", "Who?", CONTEXTS[1], ("Ada",), (0,))], doc_stride=0
    )
    batch = collate([item], pad_token_id=0, device=CPU)

    losses = Objective(student, [teacher, other], RECIPE, Weights(0.0, 1.0), temperature=2.0)(batch)
    losses["soft"].backward()
    learned = student.qa_outputs.bias.grad
    told = [RECIPE.logits(forward(each, batch), batch) / 2 for each in (teacher, other)]
    mean = torch.stack([logits.softmax(dim=-1) for logits in told]).mean(dim=0)
    own = RECIPE.logits(forward(student, batch), batch) / 2
    student.zero_grad()
    (4 * functional.kl_div(own.log_softmax(dim=-1)[0], mean[0], reduction="batchmean")).backward()
    torch.testing.assert_close(learned, student.qa_outputs.bias.grad)


def test_student_layers_are_matched_at_the_same_relative_depth() -> None:
    mask = torch.ones(1, 1, dtype=torch.bool)
    teacher = [torch.full((1, 1, 2), float(layer)) for layer in range(7)]
    student = [torch.full((1, 1, 2), float(layer)) for layer in (0, 2, 4, 6)]
    assert layerwise_loss(student, teacher, mask).item() == 0.0
