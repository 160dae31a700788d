#!/bin/sh
# Makes .cache/kafka/lib hold a Kafka broker with its tools, for `make bench-peers` to start in a temporary folder: about 100 jars from Maven Central, 60 MB.
#
# Maven's own downloads go there too and are removed; nothing outside that folder is touched. Does nothing when the folder is complete; `make clean-cache`
# removes it.
set -eu
cd "$(dirname "$0")/.."
version=4.1.2
root=$PWD/.cache/kafka
if [ -e "$root/complete-$version" ]; then exit 0; fi

echo "kafka: downloading Kafka $version into $root (nothing outside that folder is touched)"
rm -rf "$root"
mkdir -p "$root"
# The broker, the performance and dump tools, and a logger for both: only errors are shown.
cat >"$root/pom.xml" <<END
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$version</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.24.3</version></dependency>
  </dependencies>
</project>
END
mvn --quiet --batch-mode --file "$root/pom.xml" "-Dmaven.repo.local=$root/repository" \
    dependency:copy-dependencies "-DoutputDirectory=$root/lib" -DincludeScope=runtime
rm -rf "$root/repository"
: >"$root/complete-$version"
echo "kafka: $(du -sm "$root" | cut -f 1) MB in $root"
