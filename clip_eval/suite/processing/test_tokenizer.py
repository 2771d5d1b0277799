"""The tokenizer: token ids of hard texts against the oracle's byte-level BPE, by every way to load one."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_eval.families.config import LEGACY_BOS_TOKEN_ID, LEGACY_EOS_TOKEN_ID
from clip_eval.oracle.preprocessing.tokenizer import BytePairEncoder
from clip_eval.probes.texts import HARD_TEXTS, PATTERN_TEXTS, TEXTS
from clip_eval.run.evidence import Evidence
from clip_eval.subject.observations import Clip
from clip_eval.subject.tokenizers import (
    COPIES,
    LOADED,
    PARTS,
    all_texts,
    encoder_of,
    expected_rows,
    files_problem,
    ids_by,
    is_processor,
    is_python,
    like_python,
    obstacle,
    require_whole_texts,
    tokenizer_by,
    tokenizer_of,
    with_special_tokens_in_any_case,
)
from clip_eval.suite._tokens import compare_rows, plain_rows
from clip_eval.verdict.compare import Compare
from clip_eval.verdict.deviations import Deviations

TOKENIZERS = ("AutoTokenizer", "CLIPTokenizer", "CLIPTokenizerFast")
DEFAULT_PAD_TOKEN_ID = 1
"""transformers' default for a config without the field. CLIP does not use it, so it need not agree."""


@pytest.fixture
def encoder(clip: Clip, evidence: Evidence) -> BytePairEncoder:
    """The tokenizer's own rules, read from its files."""
    if absence := clip.checkpoint.tokenizer_absence:
        evidence.absent(absence)
    return encoder_of(clip)


def test_files_can_be_followed(clip: Clip, compare: Compare, evidence: Evidence) -> None:
    """The tokenizer's files, all together and each form alone, are valid: unique ids, merges of known symbols, special
    tokens in the vocabulary, a length that is a number.
    """
    if absence := clip.checkpoint.tokenizer_absence:
        evidence.absent(absence)
    problem = files_problem(clip)
    if problem is not None:
        directory = str(clip.checkpoint.processor_path)
        where = Path(problem.where or directory)
        place = where.name if where.suffix in (".json", ".txt") else "the tokenizer's files"
        compare.fail(problem.what, (problem.fix or "files that can be followed").rstrip("."), name=f"what {place} says")
    compare.equal(problem is None, True, name="the tokenizer's files can be followed")


@pytest.mark.parametrize("route", LOADED)
def test_token_ids_follow_the_rules(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, deviations: Deviations, evidence: Evidence, route: str
) -> None:
    """Token ids of hard texts are those of the checkpoint's byte-level BPE, begin token first and end token last.

    Through every class that users load it by. The texts have case, composition, scripts, emoji, apostrophes,
    punctuation, spaces, invisible and control characters, and literal special tokens; one is empty, some are too long.
    """
    if reason := obstacle(clip, route):
        evidence.not_applicable(reason)
    require_whole_texts(clip, route, encoder)
    _same_ids(clip, compare, route, _rules(encoder, deviations, route))


@pytest.mark.parametrize("way", PARTS)
def test_part_of_the_files_is_enough(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, deviations: Deviations, evidence: Evidence, way: str
) -> None:
    """A tokenizer made from some of the files, by position, by keyword or from a directory, follows those files.

    Its begin, end, unknown and padding tokens are those of the files, or CLIP's own if they name none.
    """
    if reason := PARTS[way].obstacle(clip):
        evidence.not_applicable(reason)
    rules, class_name = encoder_of(clip, way), PARTS[way].class_name
    _same_ids(clip, compare, way, _rules(rules, deviations, class_name))
    if not class_name.startswith("PreTrained"):
        tokenizer = tokenizer_by(clip, way)
        observed = {role: getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "unk", "pad")}
        expected = {"bos": rules.bos_id, "eos": rules.eos_id, "unk": rules.unk_id, "pad": rules.pad_id}
        compare.equal(observed, expected, name=f"ids of the special tokens by {way}")


@pytest.mark.parametrize("route", ["AutoProcessor", "CLIPTokenizer", "CLIPTokenizerFast"])
@pytest.mark.parametrize("copied", COPIES)
def test_copies_read_texts_as_the_original_does(
    clip: Clip,
    compare: Compare,
    encoder: BytePairEncoder,
    deviations: Deviations,
    evidence: Evidence,
    copied: str,
    route: str,
) -> None:
    """A tokenizer that was saved and loaded, pickled or copied gives the same ids and decodes to the same text."""
    if reason := obstacle(clip, route):
        evidence.not_applicable(reason)
    rules = _rules(encoder, deviations, route)
    second = tokenizer_of(COPIES[copied](clip, route))
    texts = all_texts(encoder)
    ids = plain_rows(clip.processors.process(second, list(texts))["input_ids"])
    compare_rows(compare, ids, rules.rows(texts), texts=texts, what=f"ids by the {copied} {route}")
    marked = copied != "saved" and not is_python(route) and deviations.hold("copies-decode-with-word-ends")
    words = "a photo of two dogs , running"
    expected = "".join(f"{word}</w>" for word in words.split()) if marked else words
    decoded = second.decode(encoder.inner(words), clean_up_tokenization_spaces=False)
    compare.equal(decoded, expected, name=f"text for ids by the {copied} {route}")


@pytest.mark.parametrize("route", LOADED)
def test_decoding_gives_the_words_back(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, evidence: Evidence, route: str
) -> None:
    """Decoding, one text or a batch, gives the words of a text separated by spaces, with or without special tokens."""
    if reason := obstacle(clip, route):
        evidence.not_applicable(reason)
    loaded, plain = clip.processors.load(route), {"clean_up_tokenization_spaces": False}
    texts = _plain_texts(encoder)
    rows = encoder.rows(texts)
    expected, words = [encoder.decode(ids) for ids in rows], [encoder.decode(ids[1:-1]) for ids in rows]
    bare = loaded.batch_decode(rows, skip_special_tokens=True, **plain)
    one_by_one = [loaded.decode(ids, **plain) for ids in rows]
    compare_rows(compare, one_by_one, expected, texts=texts, what=f"decode() by {route}")
    together = loaded.batch_decode(rows, **plain)
    compare_rows(compare, together, expected, texts=texts, what=f"batch_decode() by {route}")
    compare_rows(compare, bare, words, texts=texts, what=f"decoding without special tokens by {route}")


@pytest.mark.parametrize("route", TOKENIZERS)
def test_tidied_text_has_no_space_before_punctuation(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, deviations: Deviations, evidence: Evidence, route: str
) -> None:
    """clean_up_tokenization_spaces=True removes the space before a full stop, comma, question or exclamation mark."""
    if reason := obstacle(clip, route):
        evidence.not_applicable(reason)
    tidied = not deviations.hold("spaces-are-not-tidied")
    ids = encoder.inner("yes , a cat . is it ? a dog !")
    decoded = clip.processors.load(route).decode(ids, clean_up_tokenization_spaces=True)
    compare.equal(
        decoded, "yes, a cat. is it? a dog!" if tidied else "yes , a cat . is it ? a dog !", name=f"text by {route}"
    )


@pytest.mark.parametrize("route", TOKENIZERS)
def test_vocabulary_is_that_of_the_files(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, evidence: Evidence, route: str
) -> None:
    """get_vocab() has each token of the files with its id, and both conversion methods agree with it."""
    if reason := obstacle(clip, route):
        evidence.not_applicable(reason)
    tokenizer = clip.processors.load(route)
    expected = {**encoder.vocabulary, **{token.content: token.id for token in encoder.added}}
    observed = tokenizer.get_vocab()
    different = sorted(token for token in {*expected, *observed} if expected.get(token) != observed.get(token))
    compare.equal(different[:5], [], name=f"tokens of {route} with another id")
    tokens, ids = list(expected), list(expected.values())
    compare.equal(tokenizer.convert_tokens_to_ids(tokens) == ids, True, name=f"convert_tokens_to_ids by {route}")
    compare.equal(tokenizer.convert_ids_to_tokens(ids) == tokens, True, name=f"convert_ids_to_tokens by {route}")
    compare.equal(len(tokenizer), len(expected), name=f"number of tokens of {route}")


def test_tokens_fit_the_model(clip: Clip, compare: Compare, encoder: BytePairEncoder) -> None:
    """The end token is the one that the model pools at, begin and padding tokens are the config's.

    Begin and padding tokens count only if the config differs from the old defaults, which are not used.
    """
    text, tokenizer = clip.config.text, clip.processors.load("AutoTokenizer")
    if text.eos_token_id != LEGACY_EOS_TOKEN_ID:
        compare.equal(tokenizer.eos_token_id, text.eos_token_id, name="end token id of the config")
        if text.bos_token_id not in (None, LEGACY_BOS_TOKEN_ID):
            compare.equal(tokenizer.bos_token_id, text.bos_token_id, name="begin token id of the config")
        if text.pad_token_id not in (None, DEFAULT_PAD_TOKEN_ID):
            compare.equal(tokenizer.pad_token_id, text.pad_token_id, name="padding token id of the config")
    compare.equal(len(encoder.encode("")), 2, name="tokens of the empty text, its begin and its end")


def test_no_token_moves_the_pooling(clip: Clip, compare: Compare, encoder: BytePairEncoder) -> None:
    """With the old eos_token_id 2 texts are pooled at their largest id: no token has a larger one than the end's.

    A text with such a token is pooled there, and what follows it is ignored; other texts are right.
    """
    text, tokenizer = clip.config.text, clip.processors.load("AutoTokenizer")
    end = tokenizer.eos_token_id
    tokens = {number: token for token, number in tokenizer.get_vocab().items()}
    larger = [number for number in sorted(tokens) if number > end]
    if text.eos_token_id == LEGACY_EOS_TOKEN_ID and larger:
        token = tokens[larger[0]]
        others = f", as for {len(larger) - 1} more added tokens" if len(larger) > 1 else ""
        compare.fail(
            f"{token!r}, id {larger[0]}{others}: eos_token_id 2 means the largest id, and the end token has {end}; "
            "what follows counts for nothing; texts without such tokens are right",
            f"the end token: set text_config.eos_token_id of config.json to {end}",
            name=f"where the text 'a {token} b' is pooled",
        )
    compare.equal(larger if text.eos_token_id == LEGACY_EOS_TOKEN_ID else [], [], name="tokens that move the pooling")


def test_truncated_texts_fit_the_model(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, evidence: Evidence
) -> None:
    """A text cut by truncation=True has at most as many tokens as the model has positions."""
    positions = clip.config.text.max_position_embeddings
    observed = _tokens_of_a_long_text(clip, "AutoTokenizer", truncation=True)
    if observed > positions:
        stated = "no model_max_length" if encoder.max_length is None else f"model_max_length {encoder.max_length}"
        compare.fail(
            f"{observed}, and the model raises: tokenizer_config.json has {stated}, so that truncation=True cuts too "
            'late or not at all, and padding="max_length" pads to no length that the model takes',
            f"{positions}: set model_max_length to {positions}; the model is right, as are shorter texts",
            name="number of tokens of a long text with truncation=True",
        )
    if observed < positions and observed == encoder.max_length:
        evidence.note(
            f"truncation=True cuts texts to {observed} tokens, as model_max_length of tokenizer_config.json says, and "
            f"the model takes {positions}. The model is right; set model_max_length to {positions} if longer texts are "
            "meant to count."
        )
    compare.equal(observed <= positions, True, name=f"{observed} tokens of a cut text within {positions} positions")


def test_processors_cut_no_text_unasked(
    clip: Clip, compare: Compare, encoder: BytePairEncoder, evidence: Evidence
) -> None:
    """A processor cuts a long text only on request, like its tokenizer alone.

    A length saved in tokenizer.json becomes the max_length of every call of a processor.
    """
    positions = clip.config.text.max_position_embeddings
    routes = [route for route in LOADED if is_processor(route) and obstacle(clip, route) is None]
    if not routes:
        evidence.not_applicable("there is no image processor, so there is no processor either")
    for route in routes:
        observed = _tokens_of_a_long_text(clip, route)
        whole = len(encoder.encode(_long_text(clip)))
        saved = f"tokenizer.json was saved with a length of {observed} tokens, to which a processor cuts every text"
        if observed == encoder.saved_length == positions:
            evidence.note(
                f"{saved}, whether truncation is asked for or not; the tokenizer by itself cuts none unasked. The "
                f"model takes {positions}."
            )
            compare.equal(
                observed, positions, name=f"tokens of a long text by {route}, which cuts to the model's length"
            )
        elif observed == encoder.saved_length:
            compare.fail(
                f"{observed}: {saved}, also where truncation=True asks for the model's {positions}",
                f"{whole}, none cut: set truncation and padding to null in tokenizer.json",
                name=f"number of tokens of a long text by {route}, not asked to cut",
            )
        else:
            compare.equal(observed, whole, name=f"number of tokens of a long text by {route}, not asked to cut")


def test_every_id_has_an_embedding(clip: Clip, compare: Compare, encoder: BytePairEncoder) -> None:
    """Every id that the tokenizer can give lies within the model's token embedding."""
    size, tokenizer = clip.config.text.vocab_size, clip.processors.load("AutoTokenizer")
    compare.equal(len(tokenizer) <= size, True, name=f"{len(tokenizer)} tokens within {size} embeddings")
    outside = [token for token, number in tokenizer.get_vocab().items() if not 0 <= number < size]
    compare.equal(outside[:5], [], name="tokens without an embedding")
    given = {number for ids in ids_by(clip, "AutoTokenizer", all_texts(encoder)) for number in ids}
    compare.equal(min(given) >= 0 and max(given) < size, True, name=f"ids {min(given)} to {max(given)} of hard texts")


def test_distinct_texts_have_distinct_ids(clip: Clip, compare: Compare, encoder: BytePairEncoder) -> None:
    """Texts that differ by more than case, white space and composition never share their token ids."""
    rows = ids_by(clip, "AutoTokenizer", TEXTS)
    compare.equal(len({tuple(row) for row in rows}), len(TEXTS), name="number of distinct rows of ids")


def _rules(encoder: BytePairEncoder, deviations: Deviations, class_name: str) -> BytePairEncoder:
    """How a class reads texts in this environment, where that differs from the files."""
    if is_python(class_name):
        return like_python(encoder) if deviations.hold("python-tokenizer-cleans-texts") else encoder
    undeclared = any(not token.declared for token in encoder.added)
    if undeclared and deviations.hold("special-tokens-in-any-case"):
        return with_special_tokens_in_any_case(encoder)
    return encoder


def _plain_texts(encoder: BytePairEncoder) -> list[str]:
    """Hard texts without added tokens, whose spacing in decoding differs between releases."""
    added = {token.id for token in encoder.added}
    texts = [hard.text for hard in (*HARD_TEXTS, *PATTERN_TEXTS)]
    return [text for text in texts if not added & set(encoder.inner(text))]


def _same_ids(clip: Clip, compare: Compare, route: str, rules: BytePairEncoder) -> None:
    texts = all_texts(rules)
    expected = expected_rows(rules, route, texts)
    compare_rows(compare, ids_by(clip, route, texts), expected, texts=texts, what=f"ids by {route}")


def _long_text(clip: Clip) -> str:
    """A text of more tokens than the model takes, whatever the merges."""
    return "a red circle " * clip.config.text.max_position_embeddings


def _tokens_of_a_long_text(clip: Clip, route: str, **options: object) -> int:
    processed = clip.processors.process(clip.processors.load(route), text=[_long_text(clip)], **options)
    return len(processed["input_ids"][0])
