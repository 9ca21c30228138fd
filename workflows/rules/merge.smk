# From integrated lattices to merged structure factors.


rule merge:
    input:
        results=results_of("merge"),
        files=named_files("merge"),
    output:
        manifest=update("<results>/merge/manifest.json"),
    log:
        "<logs>/merge.log",
    benchmark:
        "<benchmarks>/merge.tsv"
    conda:
        "../envs/exafel.yaml"
    threads: 16
    resources:
        mpi="",
        mem_mb=lambda wildcards, threads: 2000 * threads,
        runtime="2h",
    params:
        config=CONFIG_FILE,
        stills=options("--stills", "merge"),
        out=subpath(output.manifest, parent=True),
        section=section("merge"),
    shell:
        "{resources.mpi} exafel merge {params.stills:q} --config {params.config:q} --out {params.out:q} --ranks {threads} > {log:q} 2>&1"
