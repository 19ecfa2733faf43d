"""ECLIP's training (arXiv 2209.07046): two linear projections behind a frozen CLIP, learned from pictures with captions.

    python -m fastloc.eclip pairs/ -o run             # pairs/captions.csv: image,caption
    python -m fastloc.eclip shards/*.tar -o run --model ViT-B-16 --pretrained laion2b_s34b_b88k --device cuda
    torchrun --nproc-per-node 4 -m fastloc.eclip shards/*.tar -o run

What the paper says: both encoders stay frozen; phi_i and phi_t, one linear map each, are trained with CLIP's contrastive loss; the
picture's vector is a max pooling over its token features in place of the encoder's attention pooling; the encoder's own free attention
says which tokens are masked, during training alone; a map is then cos(phi_i F_i, phi_t F_t), min-maxed.

What it leaves open is said at each field of `settings.Settings` and in `--help`, where "open" marks it. Read as: F_i is every patch token
behind the last LayerNorm and the encoder's projection, as the maps read them; the maximum is taken per channel, of phi_i F_i; F_t is the
feature of a whole caption; of a picture's captions one is drawn each time it is seen; every other pair of the batch is a negative.

Rooms: `settings` (hyper-parameters), `pairs` and `shards` (what lies on disk), `features` (the frozen towers' answers, kept), `masks` and
`loss` (the method), `steps` (one step, one process or several), `checkpoint`, `curve`, `trainer` (the loop), `cli`.
"""
