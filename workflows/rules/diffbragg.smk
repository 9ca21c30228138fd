# From merged intensities back to the pixels: each shot's model, then the structure factors. Rules of steps that the
# configuration does not ask for (`diffbragg: true`) are not there.

if "stage1" in LINKS:

    rule stage1:
        input:
            results=results_of("stage1"),
        output:
            manifest=update("<results>/stage1/manifest.json"),
        log:
            "<logs>/stage1.log",
        benchmark:
            "<benchmarks>/stage1.tsv"
        conda:
            "../envs/exafel.yaml"
        threads: 64
        resources:
            mpi="",
            mem_mb=lambda wildcards, threads: 2000 * threads,
            runtime="4h",
        params:
            config=CONFIG_FILE,
            inputs=role_options("stage1", "--stills", "--mtz"),
            out=subpath(output.manifest, parent=True),
            section=section("stage1"),
        shell:
            "{resources.mpi} exafel stage1 {params.inputs:q} --config {params.config:q} --out {params.out:q} --ranks {threads} > {log:q} 2>&1"

    rule predict:
        input:
            results=results_of("predict"),
        output:
            manifest=update("<results>/predict/manifest.json"),
        log:
            "<logs>/predict.log",
        benchmark:
            "<benchmarks>/predict.tsv"
        conda:
            "../envs/exafel.yaml"
        threads: 64
        resources:
            mpi="",
            mem_mb=lambda wildcards, threads: 2000 * threads,
            runtime="2h",
        params:
            config=CONFIG_FILE,
            inputs=role_options("predict", "--stage1"),
            out=subpath(output.manifest, parent=True),
            section=section("predict"),
        shell:
            "{resources.mpi} exafel predict {params.inputs:q} --config {params.config:q} --out {params.out:q} --ranks {threads} > {log:q} 2>&1"

    rule stage2:
        input:
            results=results_of("stage2"),
        output:
            manifest=update("<results>/stage2/manifest.json"),
        log:
            "<logs>/stage2.log",
        benchmark:
            "<benchmarks>/stage2.tsv"
        conda:
            "../envs/exafel.yaml"
        threads: 64
        resources:
            mpi="",
            # what stage2.memory_gb allows a rank for its shots, and as much again as any step needs
            mem_mb=lambda wildcards, threads: int(1000 + 1100 * CONFIG.stage2.memory_gb) * threads,
            runtime="4h",
        params:
            config=CONFIG_FILE,
            inputs=role_options("stage2", "--predict", "--mtz"),
            out=subpath(output.manifest, parent=True),
            section=section("stage2"),
        shell:
            "{resources.mpi} exafel stage2 {params.inputs:q} --config {params.config:q} --out {params.out:q} --ranks {threads} > {log:q} 2>&1"


if "evaluate" in LINKS:

    rule evaluate:
        input:
            results=results_of("evaluate"),
            files=named_files("evaluate"),
        output:
            manifest=update("<results>/evaluate/manifest.json"),
        log:
            "<logs>/evaluate.log",
        benchmark:
            "<benchmarks>/evaluate.tsv"
        conda:
            "../envs/exafel.yaml"
        resources:
            mpi="",
            mem_mb=4000,
            runtime="1h",
        params:
            config=CONFIG_FILE,
            inputs=role_options("evaluate", "--stills", "--truth", "--merge", "--stage1", "--stage2"),
            out=subpath(output.manifest, parent=True),
            section=section("evaluate"),
        shell:
            "{resources.mpi} exafel evaluate sfx {params.inputs:q} --config {params.config:q} --out {params.out:q} > {log:q} 2>&1"
