"""Texts that tokenizers get wrong, each with the reason why it is here.

All characters are in Unicode 9 (2016): their composition, letter case and classes are settled, so every release of
Python and tokenizers agrees on them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HARD_TEXTS", "ODD_TEXTS", "PATTERN_TEXTS", "TEXTS", "HardText", "around"]

BOS, EOS = "<|startoftext|>", "<|endoftext|>"

_PRINTABLE = "".join(map(chr, (*range(0x21, 0x7F), *range(0xA1, 0x100))))
_TWO_BYTES = "ĀŀƀǀȀɀʀˀπЀрҀӀԀՀր׀ـڀۀ܀ހ߀Ό"
_MORE_BYTES = "কა—あ䀀倀怀瀀耀退ꀀ뀀쀀퀀ﬀ\ue000\U00010000\U000e0001\U00100000"


@dataclass(frozen=True, slots=True)
class HardText:
    """One text.

    Attributes:
        name: a short name, unique.
        text: the text.
        why: what goes wrong on it.
    """

    name: str
    text: str
    why: str


HARD_TEXTS: tuple[HardText, ...] = tuple(
    HardText(*entry)
    for entry in (
        # Length
        ("empty", "", "no word at all: begin and end stand side by side"),
        ("one-letter", "a", "the shortest word is a byte with the end-of-word mark"),
        ("long-word", "supercalifragilistic" * 12, "a word of more tokens than the model takes"),
        ("one-letter-400-times", "a" * 400, "pairs of equal letters: which of several equal pairs is merged first"),
        ("a-hundred-words", "a red cat and 2 dogs, " * 20, "more tokens than the model takes, without truncation"),
        # Letter case
        ("capitals", "A Photo of TWO Dogs in NewYORK", "CLIP's text is lower case"),
        ("turkish-i", "İstanbul ISPARTA ırmak iİıI", "capital dotted I becomes i with a combining dot, dotless stays"),
        ("sharp-s", "Straße STRASSE ẞ ß", "lower case, not case folding: sharp s never becomes ss"),
        ("final-sigma", "ΟΔΟΣ Σίσυφος ΣΑΣ ς", "lowered letter by letter: a capital sigma never becomes final"),
        ("title-case", "ǅ Ǆ ǆ ǈ", "letters with three cases"),
        ("letterlike", "\u212a \u212b \u2126 k å ω", "Kelvin, Angstrom and Ohm are composed to letters, then lowered"),
        ("cased-numbers", "Ⅷ ⅷ Ⓐ ⓐ", "numbers and symbols that have a lower case"),
        ("full-width-capitals", "ＡＢＣ ａｂｃ １２３", "full width survives NFC and still has a case"),
        ("cyrillic-capitals", "ПРИВЕТ Ёлка Й и\u0306", "capitals outside of Latin, composed and decomposed"),
        ("deseret-capitals", "\U00010400\U00010428", "capitals beyond the first plane"),
        # Composition
        ("accents-composed", "naïve café Ångström Zoë", "accented letters are two bytes each"),
        ("accents-decomposed", "nai\u0308ve cafe\u0301 A\u030angstro\u0308m Zoe\u0308", "the same after composition"),
        ("marks-out-of-order", "q\u0323\u0307 q\u0307\u0323 a\u0301\u0323", "marks are sorted, then composed"),
        ("vietnamese", "Tiếng Việt Tiê\u0301ng Viê\u0323t", "two marks on one letter"),
        ("hangul", "한국어 \u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165", "syllables, whole and in parts"),
        ("kana-with-voice-mark", "が か\u3099 ﾊﾞ", "composed for kana, not for half-width ones"),
        ("compatibility", "ﬁ ﬂ ² ½ ™ ㎏", "NFC leaves what NFKC would take apart"),
        ("excluded-from-composition", "\u0958 \ufb1d \u0344", "taken apart for good"),
        ("compatibility-ideograph", "\uf900 豈", "composed to the plain ideograph"),
        ("mark-alone", "\u0301 a \u0308", "a mark with nothing to stand on"),
        # Scripts
        ("japanese", "日本語のテキスト、犬２匹。", "no spaces between words"),
        ("chinese", "两只红色的狗abc在跑", "letters of two scripts in one run are one word"),
        ("arabic", "كَلْبَانِ أَحْمَرَان 123", "vowel marks, right to left"),
        ("hebrew", "שָׁלוֹם עולם", "points that do not compose"),
        ("persian", "می\u200cخواهم", "a zero-width non-joiner inside a word"),
        ("hindi", "दो लाल कुत्ते दौड़ रहे हैं", "vowel signs are marks, not letters, and cut words"),
        ("thai", "สุนัขสีแดงสองตัว", "vowel marks and no spaces"),
        ("ideographs-beyond-the-first-plane", "\U00020bb7野家 \U0002000b", "four bytes each"),
        ("mathematical-letters", "\U0001d518\U0001d52b\U0001d526 \U0001d7d9", "letters and digits of four bytes"),
        # Emoji
        ("emoji", "\U0001f600 smile\U0001f600 \U0001f436\U0001f436", "symbols, glued and repeated"),
        ("emoji-skin-tones", "\U0001f44d\U0001f3fd \U0001f44d\U0001f3ff", "a modifier of its own follows"),
        (
            "emoji-joined",
            "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f469\u200d\U0001f680",
            "one sign",
        ),
        ("emoji-presentation", "\u2764\ufe0f \u2764\ufe0e \u2764 \u263a\ufe0f", "variation selectors are marks"),
        ("emoji-keycaps", "1\ufe0f\u20e3 #\ufe0f\u20e3", "a digit with two marks"),
        ("flags", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "two flags are four symbols in one run"),
        (
            "flag-of-tags",
            "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "invisible tag characters",
        ),
        # Apostrophes
        ("contractions", "it's they're I'll we've don't I'm he'd", "seven endings are pieces of their own"),
        ("contractions-in-capitals", "IT'S THEY'RE I'LL WE'VE DON'T I'M HE'D", "lowered before they are cut off"),
        ("typographic-apostrophe", "it’s they’re don’t", "not an ASCII apostrophe: no contraction"),
        ("modifier-apostrophe", "itʼs oʻahu", "an apostrophe that is a letter"),
        ("apostrophes-alone", "' '' ''' 's 't' ''s dogs'", "endings without a word, runs of apostrophes"),
        ("endings-inside-words", "rock'n'roll's o'donnell d'or 'sauce 'twas y'all'd've", "an ending needs no word end"),
        # Punctuation, numbers, markup
        ("runs-of-punctuation", "wow!!! what??? ... ---- ?!?! ,,", "a run is one piece, merged as one"),
        ("all-punctuation", "@#$%^&*()_+-=[]{}|;:'\",.<>/?`~\\", "one piece but for an ending in it"),
        ("typographic-punctuation", "“quoted” «text» „low“ — – … • ·", "punctuation of two and three bytes"),
        ("glued-punctuation", "a,b;c a-b_c C++ C# .NET AT&T (x)[y]", "an underscore is punctuation, not a letter"),
        ("web", "https://example.org/a_b?c=d&e=%20#f user@example.org", "addresses"),
        ("html", "&lt;b&gt; &amp; &#39;x&#39; &nbsp;<br/><b>bold</b>", "entities stay as they are"),
        ("repairable", "cafÃ© â€œquotedâ€\x9d", "wrongly decoded text, which ftfy would repair"),
        ("digits", "1234567890 3.14 1,000 x1y2 90s 2nd 4K", "digits stand alone"),
        ("other-digits", "\u0663\u0664 \u0967\u0968 \u2167 \u00bd \u2460 \u3007", "numbers of other scripts"),
        ("prices", "$5.99 50% #1 £3 €4 5°C 3×4", "signs between digits"),
        # Bytes
        ("every-printable-byte", _PRINTABLE, "the byte alphabet, first half"),
        ("every-leading-byte", " ".join(_TWO_BYTES + _MORE_BYTES), "the byte alphabet, leading bytes of UTF-8"),
        ("byte-symbols", "Ġthe Ċ Ā ġ ł", "the characters that bytes are written as are text too"),
        ("end-of-word-mark", "</w> a</w> cat</w>", "the mark of the merges is text too"),
        ("last-character", "\U0010ffff \ufffd", "the largest character, and the replacement character"),
        # Spaces
        ("spaces-only", "   ", "nothing but space gives no token"),
        ("line-ends-only", "\r\n\t", "nothing but space of other kinds"),
        ("spaces-around", "  a red  cat\t\r\n", "space is dropped wherever it stands"),
        ("no-break-spaces", "a\u00a0red\u202fcat\u2007here", "space that is not ASCII"),
        ("wide-spaces", "a\u3000red\u2003cat\u2009here\u200areally\u1680\u205f", "space of many widths"),
        ("line-separators", "a\u2028red\u2029cat\x85here\x0bor\x0cthere", "line ends that are not ASCII"),
        # Invisible
        ("zero-width", "zero\u200bwidth\u2060joined", "invisible and not space: part of a run of its own"),
        ("soft-hyphen", "soft\u00adhyphen", "invisible, and cuts the word"),
        ("byte-order-mark", "\ufeffa red cat\ufeff", "at the start of many a file"),
        ("direction-marks", "\u200ea\u200f \u202bred\u202c \u2067cat\u2069", "invisible marks of direction"),
        ("mongolian-separator", "a\u180eb", "space up to Unicode 6.2, and not since"),
        # Control characters
        ("control-characters", "a\x00b\x01c\x07\x08d\x7fe", "kept, as bytes"),
        ("separators", "a\x1cb\x1dc\x1ed\x1fe", "Python takes these for space, CLIP's pattern does not"),
        ("terminal-colours", "\x1b[31mred\x1b[0m", "escape sequences"),
        ("upper-control-characters", "a\x80b\x9fc", "kept, as two bytes each"),
        # Special tokens written out
        ("begin-token", BOS, "recognised in text"),
        ("end-token", EOS, "recognised in text"),
        ("end-token-among-words", f"before {EOS} after", "recognised in text, space around it dropped"),
        ("end-token-glued", f"before{EOS}after", "recognised inside of a word"),
        ("end-token-beside-punctuation", f"!{EOS}! ...{BOS}???", "recognised inside of a run of punctuation"),
        ("special-tokens-in-a-row", f"{EOS}{EOS}{BOS} {BOS}", "each is one token"),
        ("special-tokens-nearly", f"< |endoftext| > <|endoftext {EOS[1:]} <|end of text|>", "text like any other"),
        ("foreign-special-tokens", "[CLS] [SEP] <s> </s> <pad> <unk> <|pad|> <|im_start|>", "text like any other"),
        ("exclamation-mark", "!", "the padding token of larger CLIPs, and id 0 of all"),
    )
)
"""Texts for every tokenizer. Special tokens in another letter case are kept apart: files and releases decide there."""

PATTERN_TEXTS: tuple[HardText, ...] = tuple(
    HardText(*entry)
    for entry in (
        # Each is read differently by a pattern with one wrong character
        ("backslashes", r"\ a\b \\ \s \s+ C:\dir\s\d", "a class such as \\s whose backslash is taken for itself"),
        (
            "the-letter-s",
            "s ss miss the s's +s s+ 's",
            "a class \\s whose backslash is lost, so that the letter is space",
        ),
        ("plus-signs", "a+b 1+1 s+ ++ + a +", "a repetition that is taken for itself"),
        ("brackets-and-braces", r"[\p{L}]+ [\p{N}] [^\s\p{L}\p{N}]+ {L} p{N} ^s [a] (?i)", "classes spelled out"),
        (
            "bars-and-stops",
            "a|b ||| 's|'t|'re .* a.b $ ^a",
            "alternatives and wild cards that are taken for themselves",
        ),
        (
            "letters-of-class-names",
            "p L N l n pL pN LN dw DW SW",
            "letters that a broken class would take out of words",
        ),
        (
            "escapes",
            r"a\nb \r\n \t [\r\n] \u0041 \x41 \0 \'s %0A",
            "spelled out, not what they stand for",
        ),
        ("templates", r"{} {0} $1 $0 ${a} \1 \g<0> %s %d %(a)s", "places that no replacement or format fills in"),
        # The class of a character decides where a text is cut
        (
            "letters-beside-all-else",
            "a1a!a_a\u0301!é1é!я1я!日1日!",
            "each boundary of letter, number, mark and sign, twice",
        ),
        (
            "runs-of-numbers",
            "1212 \u0661\u0662\u0661\u0662 ½½ ⅧⅧ ²² 1½1",
            "digits and other numbers stand alone in a run",
        ),
        ("runs-of-letters", "ab ba abab éé яя あああ", "letters stay together, of every script"),
        ("runs-of-signs", "-- !! ?!?! ・・ €€ \u0301\u0301 ☃☃", "signs stay together, marks among them"),
        (
            "runs-of-space",
            "a  b \t\t c\n\n\nd \u3000\u3000e  ",
            "a run is one space, of every kind, and none is left over",
        ),
        # Endings, one by one: the vocabulary has merges over an apostrophe or not
        ("ending-s", "dog's 's 'S ''s x's9 s'", "cut off whatever stands around it"),
        ("ending-t", "don't 't 'T ''t x't9 t'", "cut off whatever stands around it"),
        ("ending-re", "they're 're 'RE ''re x're9 re' r'e 'r", "two letters, and one alone is none"),
        ("ending-ve", "we've 've 'VE ''ve x've9 ve' v'e 'v", "two letters, and one alone is none"),
        ("ending-m", "I'm 'm 'M ''m x'm9 m'", "cut off whatever stands around it"),
        ("ending-ll", "we'll 'll 'LL ''ll x'll9 ll' l'l 'l", "two letters, and one alone is none"),
        ("ending-d", "he'd 'd 'D ''d x'd9 d'", "cut off whatever stands around it"),
        (
            "endings-of-long-s",
            "it'\u017f dog'\u017fs '\u017f",
            "the long s is an s where letter case is ignored, and none else",
        ),
        # Marks of the vocabulary and of special tokens
        ("marks-of-tokens", "<| |> <|a|> a<|b|>c <||> |<>| <|start|> <|end|>", "the signs around special tokens"),
        (
            "halves-of-tokens",
            "<|startoftext startoftext|> <|endoftext endoftext|> <startoftext>",
            "a name without its signs",
        ),
        ("tokens-in-pieces", "<|start oftext|> <|endof\ntext|> < | endoftext | >", "a name with space in it"),
        ("ends-of-words", "</w>a a</w>b w /w <w> </W>", "the mark of a word's end, whole and in part"),
        ("byte-marks", "Ġ Ġa aĠ ĠĠ Ċa Âa Ã©", "the characters that stand for bytes"),
    )
)
"""Texts that look like the patterns of tokenizers. The rules define their ids, so packs do not record them."""

ODD_TEXTS: tuple[HardText, ...] = tuple(
    HardText(*entry)
    for entry in (
        ("end-token-in-capitals", f"a {EOS.upper()} b", "files and releases decide whether it is one"),
        ("end-token-in-title-case-glued", f"x{EOS.title()}!", "lowered, and then divided or not"),
        ("begin-token-in-capitals", f"{BOS.upper()}!", "files and releases decide whether it is one"),
        ("iota-below-alone", "a \u0345", "a mark that some take for a letter"),
        ("unassigned", "a \u0378 \ufffe", "characters that are none"),
        ("half-a-pair", "a\udcffb", "no text at all: half a surrogate pair, as a file name that is no UTF-8 has it"),
        ("capitals-of-unicode-14", "\U00010570 \U00010597", "letters that only new tables can lower"),
        ("ideograph-of-unicode-15", "\U00031350", "a letter that only new tables know for one"),
        ("composition-of-unicode-16", "\U00011382\U000113c9", "marks that only new tables compose"),
        ("emoji-of-unicode-16", "\U0001fae9\U0001fae9", "a symbol that only new tables know for one"),
    )
)
"""Texts whose ids no contract defines: releases differ, and a pack records what each does."""


def around(token: str) -> tuple[str, ...]:
    """Return texts with an added token in them: alone, among words, glued, doubled, beside punctuation."""
    return (token, f"a {token} b", f"a{token}b", f"{token}{token}", f"!{token}?", f" {token}  ")


TEXTS = (
    "a photo of a red circle",
    "A Photo  of\tTWO\nDogs, running!",
    "it's they're I'll we've don't 'quoted'",
    "naïve café \u00c5ngstr\u00f6m, na\u00efve cafe\u0301 A\u030angstro\u0308m",
    "12 345.67 %$#@!?... ---",
    "日本語のテキスト 한국어 中文",
    "\U0001f600 smile \U0001f469\u200d\U0001f680 astronaut",
    "before <|endoftext|> after <|startoftext|>",
    "zero\u200bwidth soft\u00adhyphen no\u00a0break",
    "",
)
"""Texts with case, white space, apostrophes, composed and decomposed accents, numbers, other scripts, emoji, literal
special tokens.
"""
