# From images to integrated lattices, and the statistics of their cells.


rule stills:
    input:
        # Image folders, not each image in them: the step itself records every file.
        images=images_of("stills"),
        files=named_files("stills"),
    output:
        # The step decides by its manifest what is still valid, so Snakemake leaves the old one where it is.
        manifest=update("<results>/stills/manifest.json"),
    log:
        "<logs>/stills.log",
    benchmark:
        "<benchmarks>/stills.tsv"
    conda:
        "../envs/exafel.yaml"
    threads: 64
    resources:
        mpi="",
        mem_mb=lambda wildcards, threads: 2000 * threads,
        runtime="8h",
    params:
        config=CONFIG_FILE,
        images=options("--images", "stills"),
        cell=["--cells", str(found_cells(CONFIG))] if CONFIG.stills.indexing.two_passes else [],
        out=subpath(output.manifest, parent=True),
        section=section("stills"),
    shell:
        "{resources.mpi} exafel stills {params.images:q} {params.cell:q} --config {params.config:q} --out {params.out:q} --ranks {threads} > {log:q} 2>&1"


rule cells:
    input:
        stills=results_of("cells"),
    output:
        manifest=update("<results>/cells/manifest.json"),
    log:
        "<logs>/cells.log",
    benchmark:
        "<benchmarks>/cells.tsv"
    conda:
        "../envs/exafel.yaml"
    resources:
        mpi="",
        mem_mb=4000,
        runtime="30m",
    params:
        config=CONFIG_FILE,
        stills=options("--stills", "cells"),
        out=subpath(output.manifest, parent=True),
        section=section("cells"),
    shell:
        "{resources.mpi} exafel cells {params.stills:q} --config {params.config:q} --out {params.out:q} > {log:q} 2>&1"


if "stills_first" in LINKS:

    # Of an unknown cell: a first pass over some of the shots, whose consensus the second indexes with.
    use rule stills as stills_first with:
        input:
            images=images_of("stills_first"),
            files=named_files("stills_first"),
        output:
            manifest=update("<results>/stills_first/manifest.json"),
        log:
            "<logs>/stills_first.log",
        benchmark:
            "<benchmarks>/stills_first.tsv"
        params:
            config=CONFIG_FILE,
            images=options("--images", "stills_first"),
            cell=["--first-pass"],
            out=subpath(output.manifest, parent=True),
            section=section("stills"),

    use rule cells as cells_first with:
        input:
            stills=results_of("cells_first"),
        output:
            manifest=update("<results>/cells_first/manifest.json"),
        log:
            "<logs>/cells_first.log",
        benchmark:
            "<benchmarks>/cells_first.tsv"
        params:
            config=CONFIG_FILE,
            stills=options("--stills", "cells_first"),
            out=subpath(output.manifest, parent=True),
            section=section("cells"),
