"""Tables never see torch, and cost nothing until they are asked for."""

import subprocess
import sys


def test_no_torch_and_nothing_heavy():
    heavy = "{'torch', 'timm', 'numpy', 'pandas', 'matplotlib', 'rich', 'visionbench.models'}"
    program = f"import sys, visionbench.reports; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rendering_needs_no_torch_either():
    program = (
        "import sys\nfrom visionbench import reports\n"
        "table = reports.REPORTS['convnext_table1'].layout([])\n"
        "for format in reports.FORMATS: reports.render(table, format, 100, colour=True)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
