-- fork: make job $3 of job $1, which has ended, with the steps that it had stored before step $2; returns its lane.

select pgqueue.fork($1, $2, $3)
