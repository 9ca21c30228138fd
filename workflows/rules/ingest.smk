# Where a run begins: images, where they are not given.


rule simulate:
    input:
        files=named_files("simulate"),
    output:
        manifest=update("<results>/simulate/manifest.json"),
    log:
        "<logs>/simulate.log",
    benchmark:
        "<benchmarks>/simulate.tsv"
    conda:
        "../envs/exafel.yaml"
    threads: 64
    resources:
        mpi="",
        mem_mb=lambda wildcards, threads: 1000 * threads,
        runtime="2h",
    params:
        config=CONFIG_FILE,
        out=subpath(output.manifest, parent=True),
        section=section("simulate") if CONFIG.simulate else "",
    shell:
        "{resources.mpi} exafel simulate sfx --config {params.config:q} --out {params.out:q} --ranks {threads} > {log:q} 2>&1"
