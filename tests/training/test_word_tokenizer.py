"""Words as numbers: whole words, framed, and unknown ones alike."""

from transformers import AutoTokenizer

from pocket_diffusers.training.word_tokenizer import train_word_tokenizer

CAPTIONS = ["A person walks forward, slowly", "a person waves", "a person walks"]


def test_tokens_are_words_between_markers(tmp_path):
    made = train_word_tokenizer(CAPTIONS, 10, 50)
    made.save_pretrained(tmp_path)
    for tokenizer in (made, AutoTokenizer.from_pretrained(tmp_path)):
        words = tokenizer.convert_ids_to_tokens(tokenizer("A person WALKS, jumps").input_ids)
        assert words == ["<|startoftext|>", "a", "person", "walks", ",", "<unk>", "<|endoftext|>"]
        assert len(tokenizer) == 4 + len({"a", "person", "walks", "forward", ",", "slowly", "waves"})
        padded = tokenizer(["a person", "a"], padding="max_length", max_length=10)
        assert padded.input_ids[1][3:] == [tokenizer.pad_token_id] * 7 and sum(padded.attention_mask[0]) == 4


def test_the_commonest_words_stay():
    assert set(train_word_tokenizer(CAPTIONS, 10, 7).get_vocab()) >= {"a", "person", "walks"}
    assert len(train_word_tokenizer(CAPTIONS, 10, 7)) == 7
