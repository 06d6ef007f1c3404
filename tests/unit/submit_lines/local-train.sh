.venv/bin/spark-submit \
    --master 'local[*]' \
    --properties-file conf/spark-defaults.conf \
    --driver-java-options '-Dlog4j2.configurationFile=conf/log4j2.properties -Dhalflife.log=.logs/train-NOW.log' \
    jobs/train.py --config conf/shop.yaml --as-of 2026-11-24
