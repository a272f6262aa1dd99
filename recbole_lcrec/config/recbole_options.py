"""What RecBole's own options take, which its YAMLs do not say; and those that cannot be set here, with the reason.

The declarations have the form of our YAMLs' comments (:mod:`recbole_lcrec.config.domain`). Options that one of our
YAMLs sets are declared there.
"""

from __future__ import annotations

from functools import lru_cache

_BY_DECLARATION = {
    # training
    "int in [0, 1000000] or None": "epochs eval_step",
    "int in [0, 1000000]": "stopping_step",
    "int in [1, 10000000]": "train_batch_size eval_batch_size",
    "float > 0": "learning_rate layer_norm_eps ssl_tau ssl_temp temperature tau tau_ratio rho resolution",
    "dict or None": "clip_grad_norm train_neg_sample_args",
    # environment
    "int in [0, 256]": "worker",
    "word: info | debug | warning | error | critical or None": "state",
    "bool": "use_gpu reproducibility shuffle log_wandb require_pow enable_amp enable_scaler positive_only "
    "center_columns mixed double_tower sampling_noise reweight beta_fixed time-aware apply_norm dual_domain fredom "
    "sparse_feature use_out_emb freeze_kg use_st_gumbel L1_flag reparam build_graph_separately use_inner_product nogb "
    "mf_train mlp_train use_pretrain use_inner use_outer joint_train hide_item convert_token_to_onehot direct",
    "str": "model NEG_PREFIX LIST_SUFFIX wandb_project gpu_id",
    "int in [0, 12]": "loss_decimal_place metric_decimal_place",
    # data
    "name": "field_separator seq_separator USER_ID_FIELD ITEM_ID_FIELD TIME_FIELD HEAD_ENTITY_ID_FIELD "
    "TAIL_ENTITY_ID_FIELD RELATION_ID_FIELD ENTITY_ID_FIELD ITEM_LIST_LENGTH_FIELD encoding item_attribute",
    "name or None": "RATING_FIELD LABEL_FIELD",
    "dict of int >= 1 or None": "seq_len",
    "dict of float or None": "threshold",
    "dict of {list of name or str: *} or None": "load_col unload_col unused_col",
    "list of name or None": "alias_of_user_id alias_of_item_id alias_of_entity_id alias_of_relation_id "
    "normalize_field benchmark_filename",
    "list of name or name or None": "additional_feat_suffix selected_features",
    "list of name": "numerical_features",
    "dict of {interval or list} or None": "val_interval",
    "interval or None": "entity_kg_num_interval relation_kg_num_interval",
    "bool or None": "filter_inter_by_user_or_item normalize_all kg_reverse_r xgb_silent",
    "dict of name or None": "preload_weight",
    "dict of dict or None": "discretization",
    "str: mask_itemseq | inverse_itemseq | crop_itemseq | reorder_itemseq or None": "transform",
    "dict of list of name or None": "fields",
    # sizes of models
    "int in [1, 65536]": "embedding_size hidden_size inner_size attention_size weight_size user_embedding_size "
    "item_embedding_size kg_embedding_size mf_embedding_size mlp_embedding_size ui_embedding_size "
    "neigh_embedding_size gcn_output_dim hidden_dimension latent_dimension rank prototype_size low_rank "
    "num_conv_kernel expert_num kfac num_clusters num_basis_functions class_num nh nv conv_kernel_size "
    "pool_kernel_size kernel_size interest_size k_interests neigh_num neighbor_sample_size n_memory n_factors "
    "n_cate metrics_k short_item_length high_order order_len history_num_per_term token_num_threshold",
    "int in [1, 1024]": "n_heads num_heads n_layers num_layers block_num depth t_depth cross_layer_num n_hop n_hops "
    "context_hops n_iter n_iterations step low_layers_num high_layers_num item_agg_layer lightgcn_layer "
    "hyper_layers topk_factor m_step n_enc_epochs n_dec_epochs train_rec_step train_kg_step kge_interval",
    "int in [0, 65536]": "history_len split_to",
    "int in [1, 100000]": "steps lgb_num_boost_round xgb_num_boost_round save_step k",
    "int in [0, 100000]": "sampling_steps warm_up_step pretrain_epochs",
    "int >= 1": "total_anneal_steps anneal_steps vae_anneal_steps",
    "int >= 1 or None": "xgb_nthread xgb_early_stopping_rounds",
    "int in [1, 2]": "order",
    "list of int in [1, 65536]": "mlp_hidden_size hidden_size_list user_hidden_size_list item_hidden_size_list layers "
    "dims_dnn in_dims out_dims critic_layers encoder_hidden_size cin_layer_size t_cin cnn_channels cnn_kernels "
    "cnn_strides dilations order_list",
    "list of float in [0, 1]": "dropout_probs mixture_weights",
    # shares and weights
    "float in [0, 1)": "dropout_prob hidden_dropout_prob attn_dropout_prob dropout mess_dropout mess_dropout_rate "
    "message_dropout node_dropout node_dropout_rate sess_dropout item_dropout drop_ex drop_im drop_ratio "
    "corruption_ratio",
    "float in [0, 1]": "mask_ratio ft_ratio l1_ratio anneal_cap vae_anneal_cap global_ratio spatial_ratio "
    "lambda_coeff weight",
    "float >= 0": "weight_decay reg_weight_1 reg_weight_2 reg_loss_ratio ssl_weight ssl_reg proto_reg cor_weight "
    "kg_weight ls_weight aap_weight mip_weight map_weight sp_weight align_weight second_order_loss_weight "
    "sim_regularity lmd lmd_sem negative_weight shrink lambda1 lambda2 noise_scale noise_min noise_max w_max w_min "
    "lamda initializer_range",
    "float >= 0 or list of float >= 0": "reg_weight",
    "list of float >= 0": "reg_weights",
    "float": "alpha beta gamma margin",
    "int": "q",
    "bool or float >= 0": "std",
    # choices of models; RecBole is case-sensitive
    "word: CE | BPR | BCE | MSE | NLL": "loss_type",
    "str: inner_product | transe": "loss_function",
    "str: gelu | relu | swish | tanh | sigmoid": "hidden_act",
    "str: sigmoid | relu | tanh": "hid_activation",
    "str: sigmoid | relu": "out_activation",
    "word: sigmoid | tanh | relu | leakyrelu | none": "ae_act_func mlp_act_func",
    "str: max | mean | sum": "pooling_mode",
    "str: max | average": "pooling_type pooling_type_layer_1 pooling_type_layer_2",
    "str: trm | ave": "dnn_type",
    "str: sum | stack": "accum",
    "str: sum | neighbor | concat | mean | user_attention | self_attention": "aggregator",
    "str: gcn | graphsage | bi": "aggregator_type",
    "str: prod | concat": "algorithm",
    "str: user | item": "knn_method",
    "str: 01 | rating": "inter_matrix_type",
    "str: cosine | distance | mi": "ind",
    "str: random | knn | louvain": "neigh_info_method",
    "str: linear | linear-var | cosine | binomial": "noise_schedule",
    "str: x0 | eps": "mean_type",
    "str: GRU | AIGRU | AGRU | AUGRU": "gru_type",
    "str: stacked | parallel": "structure",
    "str: teacher_training | distillation | finetuning": "phase",
    "str: CrossNet | CINComp | CIN": "teacher",
    "str: ED | ND | RW | inner | outer": "type",
    "str: us | un | su | us_x or None": "fredom_type",
    "str: first | last or None": "rm_dup_inter",
    "str: no_pretrain | after_pretrain": "train_method",
    "str: actor_pretrain | critic_pretrain | pretrain | finetune": "train_stage",
    "path": "dataset pre_model_path warm_up",
    "path or None": "pretrain_path mf_pretrain_path mlp_pretrain_path xgb_model",
    "dict": "lgb_params xgb_params",
    "bool or int >= 0": "xgb_verbose_eval use_proj_bias",
    "int in [-64, 64]": "n_facet_all n_facet n_facet_context n_facet_reranker n_facet_emb n_facet_hidden "
    "n_facet_window n_facet_MLP",
    "int in [0, 1]": "context_norm post_remove_context",
    "int >= 1 or name": "reranker_CAN_NUM",
    "str: | dynamic | static | max_logits": "weight_mode",
    "str: replace | add": "partition_merging_mode reranker_merging_mode",
}

_NO_FILES = "every run reads and splits the data afresh, in seconds, so no stale copy can be used; leave it out"
_FILTER = 'use user_inter_num_interval and item_inter_num_interval, e.g. "[5,inf)"'
_INTERVALS = "use val_interval, e.g. --val_interval=\"{rating: '[3,inf)'}\""
_MODE = 'use the mode in eval_args, e.g. --eval_args="{mode: {valid: uni100, test: uni100}}"'
_SPLIT = 'use eval_args, e.g. --eval_args="{split: {RS: [0.8, 0.1, 0.1]}, order: TO}"'
_SAMPLING = 'use train_neg_sample_args, e.g. --train_neg_sample_args="{distribution: uniform, sample_num: 1}"'
_TRANSFORM = "it follows from option transform"

INSTEAD: dict[str, str] = {
    # computed by RecBole: setting one would have no effect
    "MODEL_TYPE": "it follows from the model's class",
    "MODEL_INPUT_TYPE": "it follows from the model's class or loss_type",
    "eval_type": "it follows from metrics",
    "valid_metric_bigger": "it follows from valid_metric",
    "device": "use use_gpu and gpu_id",
    "single_spec": "use nproc",
    "local_rank": "use nproc, or start the run by torchrun",
    "offset": "use group_offset",
    "valid_neg_sample_args": _MODE,
    "test_neg_sample_args": _MODE,
    **dict.fromkeys(
        ("MASK_INDEX", "MASK_ITEM_SEQ", "POS_ITEMS", "NEG_ITEMS", "INVERSE_ITEM_SEQ", "REORDER_ITEM_SEQ",
         "CROP_ITEM_SEQ", "CROP_ITEM_SEQ_LEN"),
        _TRANSFORM,
    ),
    # what has another name or place here
    "config_file": "use config_files",
    "config_file_list": "use config_files",
    "checkpoint_dir": "use output_dir, which has the checkpoint",
    "save_dataset": _NO_FILES,
    "dataset_save_path": _NO_FILES,
    "save_dataloaders": _NO_FILES,
    "dataloaders_save_path": _NO_FILES,
    "model_file": "use --evaluate=RUN_DIR or --resume=RUN_DIR",
    "hyper_file": "use --tune=space.yaml",
    "params_file": "use --tune=space.yaml",
    # what RecBole's YAMLs name and its code never reads
    "POSITION_FIELD": "RecBole does not read it; leave it out",
    "token_num_threhold": "use token_num_threshold, which is what RecBole reads",
    "lgb_early_stopping_rounds": "use xgb_early_stopping_rounds, which is what RecBole reads",
    # names of RecBole's earlier versions
    **dict.fromkeys(("neg_sampling", "training_neg_sample_num", "training_neg_sample_distribution"), _SAMPLING),
    **dict.fromkeys(("eval_setting", "group_by_user", "split_ratio", "leave_one_num", "leave_one_out"), _SPLIT),
    "real_time_process": _MODE,
    **dict.fromkeys(
        ("min_user_inter_num", "max_user_inter_num", "min_item_inter_num", "max_item_inter_num"), _FILTER
    ),
    **dict.fromkeys(("lowest_val", "highest_val", "equal_val", "not_equal_val", "drop_filter_field"), _INTERVALS),
    "fields_in_same_space": "use alias_of_user_id and alias_of_item_id",
    "drop_preload_weight": "leave it out: preloaded columns are dropped",
    "SOURCE_ID_FIELD": "use HEAD_ENTITY_ID_FIELD",
    "TARGET_ID_FIELD": "use TAIL_ENTITY_ID_FIELD",
    "multi_gpu": "use nproc",
    "multi_gpus": "use nproc",
    "draw_loss_pic": "the curves are in the run's tensorboard folder; leave it out",
    "loss_type_list": "use loss_type",
}  # fmt: skip
"""Options that cannot be set -> what to do."""

_LOSSES = {
    "CDAE": ("MSE", "BCE"),
    "MCCLK": ("BPR", "BCE", "bpr", "bce"),
    "CORE": ("CE",),
    "FPMC": ("BPR",),
    "SINE": ("BPR", "CE", "NLL"),
    "SASRecCPR": ("CE",),
    "GRU4RecCPR": ("CE",),
}
"""Values of loss_type for RecBole's models that take other values than CE and BPR."""
HEADS = {"n_heads": ("hidden_size", "embedding_size"), "num_heads": ("attention_size",)}
"""Number of attention heads -> the width that is divided among them; the first that the model has."""


@lru_cache(maxsize=1)
def recbole_declarations() -> dict[str, str]:
    """Return option of RecBole -> declaration of what it takes."""
    return {name: text for text, names in _BY_DECLARATION.items() for name in names.split()}


def losses_of(model: str) -> tuple[str, ...]:
    """Return the values of ``loss_type`` that a RecBole model takes, if it has the option."""
    return _LOSSES.get(model, ("CE", "BPR"))
