-- resume_key: let key $2 of ordered group $1 go on past the jobs that stop it, for reason $3, on behalf of $4.

select pgqueue.resume_key($1, $2, $3, $4)
