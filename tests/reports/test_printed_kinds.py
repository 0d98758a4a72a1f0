r"""Whole tables as papers, READMEs and model zoos have them: no number lands in another column, none is lost unsaid."""

from __future__ import annotations

import pytest

from visionbench.record.errors import BenchError
from visionbench.reports import load_paper
from visionbench.reports.paper import importing
from visionbench.reports.paper.naming import read_label, spellings

NAMES = (
    "timm:resnet50", "timm:resnet50d", "timm:vit_base_patch16_224", "timm:vit_base_patch16_384",
    "timm:vit_base_patch32_224", "timm:vit_large_patch16_224", "timm:vit_large_patch16_384", "torchvision:vit_b_16",
    "torchvision:mvit_v1_b", "timm:mobilenetv2_050", "timm:mobilenetv2_100", "timm:ghostnet_050", "timm:ghostnet_100",
    "timm:convnext_base", "timm:levit_384", "timm:tf_efficientnetv2_b0", "timm:eva02_large_patch14_224",
    "timm:eva_large_patch14_196", "timm:convnext_xlarge", "timm:eva_large_patch14_336", "timm:vit_giant_patch14_224",
    "timm:vit_gigantic_patch14_224", "timm:hiera_base_224", "timm:hiera_base_plus_224", "timm:wide_resnet50_2",
    "timm:deit3_large_patch16_224", "torchvision:shufflenet_v2_x1_5", "timm:inception_next_tiny",
    "timm:resnext50_32x4d", "timm:mixer_b16_224", "timm:deit_base_distilled_patch16_224",
)  # fmt: skip

FAMILIES = (
    *NAMES, "timm:vit_base_patch16_siglip_224", "timm:vit_giant_patch14_dinov2", "timm:vit_large_patch14_clip_224",
    "timm:beit_base_patch16_224", "timm:crossvit_18_240", "timm:crossvit_18_dagger_240", "timm:nasnetalarge",
    "timm:mobilenetv1_100", "torchvision:mobilenet_v2", "timm:resnetv2_50", "timm:resnetv2_101x3_bit",
    "timm:tiny_vit_21m_224", "timm:tiny_vit_21m_384",
)  # fmt: skip


def rows(text: str) -> list[tuple[str, ...]]:
    """Label, params, FLOPs and top-1 of every row of the first table; "" for what it has not."""
    [printed, *_] = importing.parse(text, "x")
    return [tuple(row.values.get(key, "") for key in ("label", "params", "flops", "top1")) for row in printed.rows]


def latex(head: str, *lines: str) -> str:
    body = " \\\\\n".join((head, *lines))
    return f"\\begin{{tabular}}{{lccc}}\n{body} \\\\\n\\end{{tabular}}"


def markdown(*lines: str) -> str:
    head, *rest = (f"|{line}|\n" for line in lines)
    return head + "|-" * (head.count("|") - 1) + "|\n" + "".join(rest)


A, B = ("A", "25.6", "4.1", "76.1"), ("B", "28", "4.5", "81.3")
HEAD = r"Model & Params (M) & FLOPs (G) & Top-1"
A_LINE, B_LINE = (" & ".join(cells) for cells in (A, B))


@pytest.mark.parametrize(
    "text",
    [
        latex(HEAD, A_LINE, B_LINE),
        latex(r"Model & Params & FLOPs & Acc & Model & Params & FLOPs & Acc",
              "A & 25.6M & 4.1G & 76.1 & B & 28M & 4.5G & 81.3"),
        latex(r"Model & Params / FLOPs & Top-1 / Top-5", "A & 25.6M / 4.1G & 76.1 / 92.9", "B & 28M / 4.5G & 81.3/95"),
        latex(r"Model & \#Param ($\times10^6$) & GFLOPs & Err. (\%)", "A & 25.6 & 4.1 & 23.9", "B & 28 & 4.5 & 18.7"),
        latex(r"\multirow{2}{*}{Model} & \multicolumn{2}{c}{Cost} & \multirow{2}{*}{Top-1} \\ \cmidrule(lr){2-3}"
              "\n & Params (M) & FLOPs (G) & ", r"\rowcolor{red!5}A & 25.6 & 4.1 & 76.1", B_LINE),
        latex(r" & \multicolumn{2}{c}{ImageNet} & & \multicolumn{2}{c}{COCO} \\ Model & Top-1 & \#P (M) & FLOPs (G)"
              " & AP$^b$ & FLOPs (G)", "A & 76.1 & 25.6 & 4.1 & 46 & 739", "B & 81.3 & 28 & 4.5 & 50 & 745"),
        latex(r"Model & \begin{tabular}[c]{@{}c@{}}Params\\(M)\end{tabular} & \makecell{FLOPs\\(G)} & Top-1",
              r"A~\cite{x} & 25.6 & 4.1 & 76.1\rlap{$^\ddag$}", r"B & \phantom{0}28 & 4.5\phantom{0} & 81.3\tnote{1}"),
        latex(HEAD, r"A & 25.6 & 4.1 & 76.1\textsuperscript{2}",
              r"B & 28\footnote{30 in \cite{x}.} & 4.5 & 81.3$^{1,2}$"),
        "\\newcommand{\\pm@}[2]{#1}\\def\\res#1#2{#1{\\tiny$\\pm$#2}}\n"
        + latex(HEAD, r"A & 25.6 & 4.1 & \res{76.1}{0.2}", r"B & 28 & 4.5 & \textbf{81.3} \\% & 9 & 9 & 9"),
        latex(HEAD, A_LINE, r"\midrule Method & Params & FLOPs & Acc. \\ B & 28M & 4.5G & 81.3"),
        latex(HEAD, r"\midrule[1pt] A\hfill & 25.6 & 4.1 & 76.1\textsuperscript{\textdagger}", B_LINE),
        latex(HEAD, r"\rowcolor{red} & 25.6 & 4.1 & 76.1 \\ \multirow{-2}{*}{A} & & & \\[2pt] \multirow{2}*{B}"
              r" & 28 & 4.5 & 81.3\,\textcolor{red}{$\uparrow$0.2} \\ & & & "),
        "|Model|Params (M)|FLOPs (G)|Acc@1|\n|:-|-:|-:|-:|\n|[A](x) ![b](y)|25.6|4.1|**76.1**<sup>1</sup>|\n"
        "|B|28|4.5|81.3|",
        "Model | Params (M) | GMACs | top1_err\n--- | ---: | ---: | ---:\nA | 25.6 | 4.1 | 23.9\nB | 28 | 4.5 | 18.7\n",
        "\n".join(("# Zoo", markdown("Model|#P|FLOPs|Top-1", "A|25.6M|4.1G|76.1", "B|28M|4.5G|~~80~~ 81.3"), "text\n",
                   markdown("Backbone|#P|FLOPs|box mAP", "B|48M|267G|46"))),
        '"Modell";"Params (M)";"FLOPs (G)";"Top-1"\r\n"A";"25,6";"4,1";"76,1"\r\n"B";"28";"4,5";"81,3"\r\n',
        "Model\tParams (M)\tFLOPs (G)\tTop-1\nA\t25,6\t4,1\t76,1\nB\t28\t4,5\t81,3\n",
        "model,param_count,top1,infer_gmacs\nA,25.6,76.1,4.1\nB,28,81.3,4.5\n",
        "<table><th>Model</th><th>Params (M)</th><th>FLOPs (G)</th><th>error<br/>(top-1)</th>"
        "<tr><td>A</td><td>25.6</td><td>4.1</td><td>23.9</td></tr><tr><td>B<td>28<td>4.5<td>18.7</table>",
        "<table><tr><th>Model<th>Params<br>(M)<th>FLOPs (G)<th>Top-1<tr><td>A<td>25.6<td>4.1<td>76.1"
        "<tr><td><b>B</b></td><td>28</td><td>4.5</td><td>81.3</td></tr></table>",
        "Model    #param.   FLOPs   top-1 acc.\nA [48]   25.6M     4.1G    76.1\nB        28M       4.5G    81.3\n",
        "Model\t#param.\tFLOPs\ttop-1 acc.\nA [48]\t25.6M\t4.1G\t76.1\nB\t28M\t4.5G\t81.3\n",
    ],
)  # fmt: skip
def test_every_kind_of_printed_table_is_read_whole(text):
    assert rows(text) == [A, B]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (latex(HEAD + " & Latency (ms)", "A & 1 & 2 & 3 & 4"), "line 2: column 'Latency (ms)' is left out"),
        (latex(r"Model & \multicolumn{2}{c}{A100 img/s} & Top-1 \\ & fp32 & AMP &", "A & 1 & 2 & 3"), "img/s AMP' is"),
        (latex(HEAD, r"A & 1 & \foo{2}{3} & 4"), "flops = '2 3' is no number"),
        (latex(HEAD, r"A & 1 & 1 226 & 4"), "flops = '1 226' is no number"),
        ("model,params,MAdds\nA,5.4,219\nB,3.5,300\n", "'MAdds' has no unit and is taken as millions"),
        ("model,params,FLOPs\nA,25.6,4.1,1\nB,1,2\nC,3,4", "line 2: 4 cells stand in a table of 3 columns"),
        (markdown("Model|Params|Batch size", "A|3M|64"), "column 'Batch size' is left out"),
        (latex(HEAD + " & x" * 99, A_LINE), "line 2: the table has 103 columns: those behind"),
        ((latex(HEAD, A_LINE) + "\n") * 201, "line 802: only the first 200 tables are read"),
        ((markdown("Model|Params", "A|3M") + "\n") * 203, "line 801: only the first 200 tables are read"),
        (latex(HEAD, "A & 1 & 2 & 3").partition(r"\end")[0], "line 1: the table is never closed"),
        (markdown("Model|Params|img/s (8xA100)", "A|3M|640"), "column 'img/s (8xA100)' is left out"),
        (markdown("Model|Params|images / hour", "A|3M|640"), "column 'images / hour' is left out"),
        (markdown("Model|Params|Top-1", "A|3M|176.1"), "top1 = '176.1' is no number"),
        ("Net   Params   Top-1\nA b   3M   70\nB 4M   71\nC   5M   72\n", "line 3: 2 cells stand in a table of 3"),
        (latex("a & b", "1 & 2") + latex(HEAD, "A & 1 & 2 & 3"), "line 2: the table has no columns"),
    ],
)  # fmt: skip
def test_what_is_left_out_is_said_with_its_line(text, said):
    problems = [problem for printed in importing.parse(text, "x") for problem in printed.problems]
    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("head", "cell", "key", "value"),
    [
        ("Mem. (MB)", "4,096", "memory", "4.096"),
        ("Memory", "4096MB", "memory", "4.096"),
        ("Params", "25,557,032", "params", "25.557032"),
        ("Params", ".78M", "params", "0.78"),
        ("FLOPs", "4.1x10^9", "flops", "4.1"),
        ("img size", "3x224x224", "size", "224"),
        ("Input", "(384, 384)", "size", "384"),
        ("Resolution", "512x1024", "size", "512x1024"),
        ("Throughput", "1.2k", "img/s", "1200"),
        ("Throughput", "1.2k img/s", "img/s", "1200"),
        ("Throughput", "755 images / sec", "img/s", "755"),
        ("Throughput", "755 samples per second", "img/s", "755"),
        ("Params", "25.6 M params", "params", "25.6"),
        ("Params", "２５．６M", "params", "25.6"),
        ("Top-1", "81.3 (+0.4)", "top1", "81.3"),
        ("Top-1 Accuracy", "0.813", "top1", "81.3"),
        ("Top-1", "81.3²", "top1", "81.3"),
        ("Params (10⁶)", "25.6", "params", "25.6"),
        ("Size (MB)", "98", "size", ""),
        ("Model size (MB)", "98", "params", ""),
        ("crop_pct", "0.9", "size", ""),
        ("Top-1", "81.3_{+0.4}", "top1", "81.3"),
        ("Top-1", "81.3/95.5", "top1", ""),
        ("Top-5", "95.5", "top1", ""),
        ("A-Acc@1(%)", "23.9", "top1", ""),
        ("K400 Top-1 (%)", "84.0", "top1", ""),
        ("SSV1 Top-1", "57.2", "top1", ""),
        ("IN-1K top-1", "57.2", "top1", "57.2"),
        ("Memory", "22572", "memory", "22.572"),
        ("ImageNet 512x512 FID", "9.56", "top1", ""),
        ("ImageNet-1K", "81.3", "top1", "81.3"),
        ("Speed (clip/s)", "133.6", "img/s", ""),
        ("Finetuned models (IN-1K)", "81.3", "top1", ""),
        ("Top-1 V2", "70.1", "top1", ""),
        ("Params (M)", "025.6", "params", "25.6"),  # TOML has no such number
        ("Params (M)", "00", "params", "0"),
        ("Params (M)", "２８", "params", "28"),  # digits as wide as Chinese letters
        ("Params (M)", "9" * 30, "params", ""),
        ("Image size", "0224x0224", "size", "224"),
        ("Err. (%)", "18.70", "top1", "81.30"),
        ("Err. (%)", "187", "top1", ""),
    ],
)
def test_a_cell_has_the_unit_of_its_column(head, cell, key, value):
    [printed] = importing.parse(markdown(f"Model|Family|{head}|MACs", f"A|CNN|{cell}|4.1G"), "x")
    [row] = printed.rows
    assert (row.values.get(key, ""), row.section, row.values["flops"]) == (value, "CNN", "4.1")


LABELS = {
    "ResNet-50 (He et al., 2016)": "timm:resnet50",
    "ResNet50 [12, 14]": "timm:resnet50",
    "R-50": "timm:resnet50",
    "EfficientNetV2B0": "timm:tf_efficientnetv2_b0",
    "ResNet50_Weights.IMAGENET1K_V2": "timm:resnet50",
    "timm/resnet50.a1_in1k": "timm:resnet50",
    "MobileNetV2 x1.0": "timm:mobilenetv2_100",
    "MobileNetV2-0.5": "timm:mobilenetv2_050",
    "GhostNet 1.0×": "timm:ghostnet_100",
    "GhostNet": "timm:ghostnet_100",
    "DeiT-base distilled (1000 epochs)": "timm:deit_base_distilled_patch16_224",
    "S24": "",  # of CaiT, XCiT or PoolFormer?
    "LeViT-384": "timm:levit_384",
    "InceptionNeXt-T": "timm:inception_next_tiny",
    "ResNeXt50-32×4d": "timm:resnext50_32x4d",
    "MLP-Mixer-B/16": "timm:mixer_b16_224",
    "DeiT-B⚗": "timm:deit_base_distilled_patch16_224",
    "EVA-L/14": "",  # timm has it at two sizes, and EVA-02 is another
    "ViT-G/14": "timm:vit_gigantic_patch14_224",
    "ViT-g/14": "timm:vit_giant_patch14_224",
    "Hiera-B+": "timm:hiera_base_plus_224",
    "WRN-50-2": "timm:wide_resnet50_2",
    "DeiT-III-L": "timm:deit3_large_patch16_224",
    "ShuffleNetV2 1.5x": "torchvision:shufflenet_v2_x1_5",
    "ConvNeXt-XL": "timm:convnext_xlarge",
    "MViT-B": "",  # torchvision's takes videos
    "Ours-B": "",
}
"""Labels without a size, and the model that each names."""

SIZED = (
    ("ViT-B/16", 384, "timm:vit_base_patch16_384", 0),
    ("ViT-L/16", 224, "timm:vit_large_patch16_224", 0),  # papers print it at 384
    ("ViT-B/32", 224, "timm:vit_base_patch32_224", 0),  # one shipped paper prints this name for patches of 16
    ("ConvNeXt-B ↑384", 0, "timm:convnext_base", 384),
    ("ConvNeXt-B @ 384px (ours)", 0, "timm:convnext_base", 384),
    ("ConvNeXt-B-384", 0, "timm:convnext_base", 384),
)
"""Labels with the row's size, the model, and the size that the label says."""


@pytest.mark.parametrize(
    ("label", "size", "model", "read"), [*((label, 0, model, 0) for label, model in LABELS.items()), *SIZED]
)
def test_a_label_is_read_with_its_marks_and_its_size(label, size, model, read):
    named = read_label(label, size, NAMES)
    assert (named.model, named.size) == (model, read)


@pytest.mark.parametrize("second", ["Backbone", "Arch.", "Variant"])
def test_a_second_column_of_names_is_kept_and_a_column_of_links_is_none(second):
    text = markdown(f"Method|{second}|Params (M)|Top-1|Model", "MAE|ViT-B|86|83.6|[x](y)")
    [printed] = importing.parse(text, "x")
    assert printed.rows[0].values == {"label": "MAE", "variant": "ViT-B", "params": "86", "top1": "83.6"}
    assert "column 'Model' is left out" in printed.problems[0]


@pytest.mark.parametrize(
    ("types", "sections"), [(["CNN", "CNN", "ViT"], ["CNN", "CNN", "ViT"]), (["CNN", "ViT", "CNN"], ["", "", ""])]
)
def test_types_are_sections_where_rows_of_a_type_stand_together(types, sections):
    lines = (f"Net{i}|{kind}|3M" for i, kind in enumerate(types))
    [printed] = importing.parse(markdown("Model|Type|Params", *lines), "x")
    assert [row.section for row in printed.rows] == sections
    assert not any("section" in row.values for row in printed.rows)


def test_a_row_has_a_rate_for_each_card_of_its_header(tmp_path):
    text = latex(r"Model & \multicolumn{2}{c}{img/s} & Top-1 \\ & V100 & A100 & ", "A & 1,226 & 2,494 & 80.4")
    [printed] = importing.parse(text, "x")
    assert (printed.gpu, printed.problems) == ("V100", ())
    assert printed.rows[0].values == {"label": "A", "img/s": "1226", "img/s A100": "2494", "top1": "80.4"}
    values = "".join(f'"{key}" = "{value}"\n' for key, value in printed.rows[0].values.items())
    head = 'title = "T"\ncite = "c"\n[[table]]\nname = "t"\ntitle = "T"\ngpu = "V100"\n[[table.row]]\n'
    (tmp_path / "t.toml").write_text(head + values)
    [report] = load_paper(tmp_path / "t.toml").values()
    table = report.layout([])
    shown = {" ".join(column.head): cell.text for column, cell in zip(table.columns, table.rows[0].cells, strict=True)}
    assert (shown["paper V100"], shown["paper A100"]) == ("1,226", "2,494")


def test_every_table_of_a_text_is_read_and_a_detector_is_no_backbone():
    text = "\n".join(
        ("## Zoo", markdown("Model|#P|Top-1", "A|3M|70"), "## COCO", markdown("Backbone|#P|box AP", "A|48M|46"))
    )
    zoo, coco = importing.parse(text, "x")
    assert [(table.title, [row.dense for row in table.rows]) for table in (zoo, coco)] == [
        ("Zoo", [False]), ("COCO", [True])
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "| | A | B |\n|-|-|-|\n|Params (M)|25.6|28|\n|FLOPs (G)|4.1|4.5|\n|Latency (ms)|1|2|\n|Top-1|76.1|81.3|\n",
        "model,A,B\nparams,25.6M,28M\nMACs,4.1G,4.5G\ntop1 error,23.9,18.7\n",
        r"\begin{tabular}{lcc} & \multicolumn{2}{c}{CNN} \\ Network & A & B \\ \hline \#P & 25.6M & 28M \\"
        r" Acc & 76.1 & 81.3 \\ FLOPs & 4.1G & 4.5G \\ \end{tabular}",
        "<table><tr><th><th>A<th>B<tr><td>Params (M)<td>25.6<td>28<tr><td>FLOPs (G)<td>4.1<td>4.5<tr><td>Top-1"
        "<td>76.1<td>81.3</table>",
    ],
)  # fmt: skip
def test_a_table_whose_networks_are_its_columns_is_turned(text):
    assert rows(text) == [A, B]


def test_a_page_keeps_the_underscores_of_names_and_marks_are_none():
    text = "<table><tr><th>Model<th>Params<tr><td>ViT_B_16_Weights.V1<td>86.6M"
    first, second = rows(text + "<tr><td>A<sub>a</sub><sup>†</sup><td>1M</table>")
    assert (first[0], second[0]) == ("ViT_B_16_Weights.V1", "Aa†")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Table 3. Nets\nModel   Res.  #Params  Top-1\nA [4]   2242  25.6M   76.1\nB 3842   28M   81.3\n", ["224"]),
        ("|Model@res|#P|Top-1|\n|-|-|-|\n|A@384|25.6M|76.1|\n", [""]),
        ("|Network (resolution)|#P|Top-1|\n|-|-|-|\n|A (384)|25.6M|76.1|\n", [""]),
    ],
)
def test_sizes_of_copies_and_of_names(text, expected):
    [printed] = importing.parse(text, "x")
    assert [row.values.get("size", "") for row in printed.rows] == expected
    assert all(row.values["label"].startswith("A") and row.values["params"] == "25.6" for row in printed.rows)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("|Model|Dataset|Top-1|\n|-|-|-|\n|A|CIFAR-10|98|\n|B|ImageNet|81.3|\n", ["", "81.3"]),
        ("# On Flowers-102\n|Model|Params|Acc|\n|-|-|-|\n|A|25.6M|98|\n", [""]),
        ("# ImageNet and CIFAR-10\n|Model|Params|Acc|\n|-|-|-|\n|A|25.6M|76.1|\n", ["76.1"]),
    ],
)
def test_an_accuracy_on_other_images_is_left_out_and_that_is_said(text, expected):
    [printed] = importing.parse(text, "x")
    assert [row.values.get("top1", "") for row in printed.rows] == expected
    assert bool(printed.problems) == ("" in expected)


@pytest.mark.parametrize(
    ("label", "model"),
    [
        ("SigLIP ViT-B/16", "timm:vit_base_patch16_siglip_224"),
        ("DINOv2 ViT-g/14", "timm:vit_giant_patch14_dinov2"),
        ("CLIP-ViT-L/14", "timm:vit_large_patch14_clip_224"),
        ("MAE ViT-B/16", "timm:vit_base_patch16_224"),
        ("ViT-B/16 (DINO)", "timm:vit_base_patch16_224"),
        ("BEiT ViT-B/16", "timm:beit_base_patch16_224"),
        ("data2vec ViT-B/16", ""),
        ("DeiT-III (ViT-L)", "timm:deit3_large_patch16_224"),
        ("deit3-large-p16_3rdparty_in1k", "timm:deit3_large_patch16_224"),
        ("vit-large-p14_eva02_m38m-pre_in21k-medft_3rdparty_in1k-448px", "timm:eva02_large_patch14_224"),
        ("vit-large-p14_clip-laion2b-in12k-pre_3rdparty_in1k", "timm:vit_large_patch14_clip_224"),
        ("resnet50_8xb16_cifar10", ""),
        ("CrossViT-18†", "timm:crossvit_18_dagger_240"),
        ("NASNetLarge", "timm:nasnetalarge"),
        ("MobileNet", "timm:mobilenetv1_100"),
        ("ResNet50V2", "timm:resnetv2_50"),
        ("R101x3", "timm:resnetv2_101x3_bit"),
        ("TinyViT-21M@384", "timm:tiny_vit_21m_384"),
    ],
)
def test_labels_of_families_with_networks_of_their_own(label, model):
    assert read_label(label, 0, FAMILIES).model == model


@pytest.mark.parametrize(
    ("label", "variant", "section", "expected"),
    [
        ("MAE", "ViT-B", "", ["MAE", "MAE-ViT-B", "ViT-B"]),
        ("BEiT", "ViT-B", "", ["BEiT", "BEiT-ViT-B"]),
        ("CLIP", "ResNet-50", "", ["CLIP", "CLIP-ResNet-50"]),
        ("ViT-g/14", "", "DINOv2 (LVD-142M)", ["DINOv2 ViT-g/14"]),
        ("Swin-T", "", "Compared with DINOv2", ["Swin-T"]),
    ],
)
def test_a_plain_name_beside_another_family_is_no_plain_network(label, variant, section, expected):
    assert spellings(label, variant, section) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["A|25,6M|0,522|76,1%", "B|28M|4,5|81,3%"], [("A", "25.6", "0.522", "76.1"), B]),
        (["A|25,6|4,1|76,1", "B|28|4,5|81,3"], [A, B]),
        (["A|25.6|4.1|76.1", "B|28|4.5|81,3"], [A, ("B", "28", "4.5", "")]),  # one comma among points is a slip
    ],
)
def test_decimal_commas_are_read_where_no_number_has_a_point(lines, expected):
    assert (
        rows("|Model|Params (M)|FLOPs (G)|Top-1|\n|-|-|-|-|\n" + "".join(f"|{line}|\n" for line in lines)) == expected
    )


def test_json_is_called_so_and_signs_that_turn_text_are_dropped():
    with pytest.raises(BenchError, match="x is JSON: give a table as LaTeX"):
        importing.parse('[{"model": "resnet50"}]', "x")
    assert rows("|Model|Params|Top-1|\n|-|-|-|\n|\u202eA|25.6M|76.1|\n") == [("A", "25.6", "", "76.1")]


LONG = r"""\begin{longtable}{lrrr}
Model & Params & FLOPs & Acc \\ \endfirsthead
Model & Params & FLOPs & Acc \\ \endhead
\multicolumn{4}{r}{continued} \\ \endfoot \bottomrule \endlastfoot
A & 25.6M & 4.1G & 76.1 \\
B & 28M & 4.5G & 81.3 +- 0.1 \\
\end{longtable}"""


def test_a_table_of_several_pages_has_no_section_of_its_foot():
    [printed] = importing.parse(LONG, "x")
    assert [(row.section, row.number) for row in printed.rows] == [("", 5), ("", 6)]
    assert rows(LONG) == [A, B]


def test_a_table_of_detectors_alone_says_why_nothing_is_read():
    text = "||RetinaNet||\n|-|-|-|\n|Backbone|#Param (M)|AP|\n|ResNet-50|37.7|36.3|\n"
    with pytest.raises(
        BenchError, match=r"x, line 1: columns? 'RetinaNet #Param \(M\)'.* no other column has a number"
    ):
        importing.parse(text, "x")
