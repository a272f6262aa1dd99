"""Instruction samples: templates, the tokenizer, the one prompt builder, and the train data loader."""
