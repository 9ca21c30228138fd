# The detector's geometry, refined by the lattices of this trial for the next one.


rule refine_detector:
    input:
        stills=results_of("refine_detector"),
    output:
        manifest=update("<results>/refine_detector/manifest.json"),
    log:
        "<logs>/refine_detector.log",
    benchmark:
        "<benchmarks>/refine_detector.tsv"
    conda:
        "../envs/exafel.yaml"
    resources:
        mem_mb=4000,
        runtime="1h",
        mpi="",
    params:
        config=CONFIG_FILE,
        stills=options("--stills", "refine_detector"),
        out=subpath(output.manifest, parent=True),
        section=section("refine_detector") if CONFIG.refine_detector else "",
    shell:
        "{resources.mpi} exafel refine-detector {params.stills:q} --config {params.config:q} --out {params.out:q} > {log:q} 2>&1"
