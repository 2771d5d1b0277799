"""A small tokenizer written by hand, with hard texts for it, and the same of the library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import transformers
from tokenizers.pre_tokenizers import ByteLevel

from clip_eval.oracle.preprocessing.tokenizer import BytePairEncoder

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = [
    *("t h", "i n", "a n", "r e", "o n", "th e</w>", "in g</w>", "e r</w>", "an d</w>", "o u", "' s</w>", "' t</w>"),
    *("' re</w>", "r e</w>", "l o", "lo w</w>", "lo w", "low er</w>", "p h", "o t", "ph ot", "phot o</w>", "! !</w>"),
    *(". .", ".. .</w>", "c a", "ca t</w>", "Ã ©</w>", "Ã ©", "ç ļ", "ð Ł", "ðŁ ĳ", "< |", "| ></w>", "e n", "en d"),
    *("o f", "end of", "e x", "t ex", "tex t</w>", "endof text</w>", "a a", "aa aa", "a a</w>", "aa aa</w>"),
]
HARD_STRINGS = [
    *("", " ", "\t\n  ", "a", "The CAT and the lower re", "a  photo\tof\r\na\u00a0cat"),
    *("cat\u3000cat", "\x85\u2028cat", "zero\u200bwidth\u200cjoin\u200der\ufeffbom", "\x00\x01\x1c\x1f\x7f", "\u180e"),
    *("éÉ", "e\u0301E\u0301", "q\u0323\u0307", "a\u0301\u0323", "\u212b \u2126 \u212a", "ﬁ", "\ufb1d", "\u0958"),
    *("ΑΣ ΟΔΟΣ Σ", "İstanbul ıI", "ǅ", "Straße ẞ", "ᏸᏰ", "ŉ", "\u0345α", "नमस्ते", "ไทย", "𝔘𝔫𝔦"),
    *("日本語のテキスト", "中文 混合abc", "한국어", "\u1100\u1161\u11a8", "½²Ⅷ٣①"),
    *("👍🏽", "👨\u200d👩\u200d👧\u200d👦", "🏳\ufe0f\u200d🌈", "☺\ufe0f☺", "1\ufe0f\u20e3"),
    *("don't I'M you'RE it's we've he'LL she'd", "'''", "''s", "'tis 's't", "rock'n'roll’s", "don’t"),
    *("!!!???...", "a!b?c", "@#$%^&*()_+-=[]{}|;:'\",.<>/?`~", "1234 3.14 x1y2", "_snake_case", "http://x.y/z?a=b"),
    *(END, START, f"a{END}b {START}", f"{END}{END}", f"!{END}!", "<| endoftext |>", "<|endoftext"),
    *("</w>", "a</w>", "Ġthe", "<|ENDOFTEXT|>", "<|EndOfText|>!", "x<|StartOfText|>y"),
    *("a " * 100, "aaaaaaaaa" * 9, "supercalifragilistic" * 5),
]
ADDED = [
    {"content": "<Blue>", "normalized": True},
    {"content": "<Raw>", "normalized": False},
    {"content": "<w>", "normalized": True, "single_word": True},
    {"content": "<l>", "normalized": True, "lstrip": True},
    {"content": "<r>", "normalized": False, "rstrip": True},
    {"content": "<r> two", "normalized": False},
]
ADDED_STRINGS = [
    *("<Blue>", "<blue>", "a<BLUE>b", "<Raw>", "<raw>", "a  <l>  b", "a  <r>  b", "<l><r>", "<l>  <l>", "<r>  <l>"),
    *("<w>", "a <w> b", "a<w>b", "é<w>", "<w>_", "\u200d<w>", "-<w>-", "a\u0301<w>", "<w><w>"),
    *("<r> two", "<r> twos <r>  two"),
]


def library_tokenizer(directory: Path) -> Any:
    """The fast tokenizer, which in 5.x is the only one."""
    return transformers.CLIPTokenizerFast.from_pretrained(directory)


def token(content: str, **flags: object) -> dict[str, object]:
    """A token as the files spell it out."""
    plain = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": True, "special": False}
    return {"content": content, **plain, **flags}


def vocabulary() -> dict[str, int]:
    """Bytes, bytes at the end of a word, merges, BOS and EOS: the order of CLIP's own file."""
    symbols = sorted(ByteLevel.alphabet())
    learned = ["".join(merge.split()) for merge in MERGES]
    names = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *learned, START, END]
    return {name: number for number, name in enumerate(names)}


def write_tokenizer(directory: Path, *, literal: bool = False, **config: object) -> Path:
    """`vocab.json`, `merges.txt`, `tokenizer_config.json`, each token's flags spelled out."""
    directory.mkdir(parents=True, exist_ok=True)
    ids = vocabulary()
    named = [token(START, special=True, normalized=not literal), token(END, special=True, normalized=not literal)]
    decoder = {str(ids[START] + number): entry for number, entry in enumerate(named)}
    decoder |= {str(len(ids) + number): token(**entry) for number, entry in enumerate(ADDED)}
    roles = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    write_json(directory / "vocab.json", ids)
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    write_json(
        directory / "tokenizer_config.json",
        {**roles, "tokenizer_class": "CLIPTokenizer", "added_tokens_decoder": decoder, **config},
    )
    return directory


def write_json(path: Path, content: object) -> None:
    """As transformers writes it."""
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def assert_same_ids(directory: Path, texts: list[str]) -> None:
    """Encoder and library give the same ids for every text."""
    tokenizer, encoder = library_tokenizer(directory), BytePairEncoder.from_directory(directory)
    observed = {text: tokenizer(text)["input_ids"] for text in texts}
    expected = {text: encoder.encode(text) for text in texts}
    assert {text: ids for text, ids in observed.items() if ids != expected[text]} == {}
